"""MNIST's four files: where they are published, and how they are told from anything else.

The checksums are of the files' content, unzipped: mirrors compress it differently.
"""

from typing import Final, NamedTuple

MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)


class Published(NamedTuple):
    """A gzipped file, with the sha256 and the size of what is in it."""

    name: str
    sha256: str
    bytes: int

    @property
    def content_name(self) -> str:
        """The file's name once it is unzipped."""
        return self.name.removesuffix(".gz")


FILES: Final = (
    Published(
        "train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016
    ),
    Published("train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
    Published(
        "t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016
    ),
    Published("t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
)
