"""What a shard holds is counted truthfully, whatever the tar's form; nothing vanishes without a word."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import read_manifest, tally_manifest
from gapctl.data.image_text.read import read_rows_with_samples
from gapctl.data.image_text.shard_index import ShardIndex, index_shard
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tar import SampleProblem
from gapctl.data.parallel_shards import Workers
from gapctl.io.retry import is_hidden_or_system_file
from pair_shards import pair
from tar_blocks import BLOCK, END, header, member, pax_record, sample, samples, tar_of

LATER = "where a tar ends, but more follows from byte"
NOT_ARRIVED = "the rest of the file did not arrive"


def usable(found: ShardIndex) -> list[str]:
    return [each.key for each in found.samples if each.problem is None]


def cut_within(ending: str, lost: int) -> bytes:
    """Three samples of which all from the middle of the second one's member on is zeros."""
    content, members = samples(range(3)) + END, pair(1)
    start = content.index(members[ending])
    arrived = start + len(members[ending]) - lost
    return content[:arrived] + bytes(len(content) - arrived)


EARLY_ENDS: dict[str, tuple[bytes, int, str]] = {
    "one block of zeros": (samples([0]) + bytes(BLOCK) + samples([1, 2]) + END, 1, LATER),
    "two blocks of zeros": (samples([0]) + END + samples([1, 2]) + END, 1, LATER),
    "a hole of seven blocks": (samples([0, 1]) + bytes(7 * BLOCK) + samples([2]) + END, 2, LATER),
    "three tars joined": (b"".join(tar_of({"0.jpg": pair(n)["jpg"], "0.txt": b"a"}) for n in range(3)), 1, LATER),
    "words behind the end": (samples([0]) + END + b"words", 1, LATER),
    "a part, then many zeros": (samples([0]) + bytes(91 * BLOCK), 1, NOT_ARRIVED),
    "nothing but many zeros": (bytes(91 * BLOCK), 0, NOT_ARRIVED),
    "zeros within an image": (cut_within("jpg", 700), 1, NOT_ARRIVED),
    "zeros within a caption": (cut_within("txt", 3), 1, NOT_ARRIVED),
    "zeros in place of a json": (cut_within("json", len(pair(1)["json"])), 2, NOT_ARRIVED),
    "no block of zeros": (samples([0, 1]), 2, "without the blocks of zeros that close a tar"),
}


@pytest.mark.parametrize("form", EARLY_ENDS)
def test_a_tar_that_ends_early_is_damaged_and_keeps_what_stands_before(form: str, tmp_path: Path) -> None:
    content, before, why = EARLY_ENDS[form]
    (tmp_path / "a.tar").write_bytes(content)

    assert len(usable(index_shard(content))) == before
    indexed = gapctl("data", "index", str(tmp_path / "a.tar"))
    assert indexed.exit_code == (0 if before else 2)
    assert f"{tmp_path}/a.tar: damaged after" in indexed.out
    assert why in indexed.out
    verified = gapctl("data", "verify", str(tmp_path / "a.tar"), "--workers", "1")
    assert verified.exit_code == 1
    assert why in verified.out


@pytest.mark.parametrize("blocks", [1, 2, 20, 21])
def test_zeros_that_close_a_tar_are_no_damage(blocks: int) -> None:
    found = index_shard(samples([0, 1]) + bytes(blocks * BLOCK))
    assert (len(usable(found)), found.damage) == (2, None)


@pytest.mark.parametrize("record", [64, 128, 512])
def test_a_tar_of_large_records_is_whole(record: int) -> None:
    content = samples(range(3)) + END
    found = index_shard(content + bytes(-len(content) % (record * BLOCK)))
    assert (len(usable(found)), found.damage) == (3, None)


APART: dict[str, bytes] = {
    "by ending": b"".join(sample(n, [ending]) for ending in ("jpg", "json", "txt") for n in range(4)),
    "captions first": b"".join(sample(n, [ending]) for ending in ("txt", "jpg") for n in range(4)),
    "in two orders": b"".join(sample(n, ["jpg"]) for n in range(4))
    + b"".join(sample(n, ["txt"]) for n in (1, 2, 3, 0)),
}


@pytest.mark.parametrize("order", APART)
def test_members_of_a_key_that_stand_apart_are_named_as_that_and_counted_once(order: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(APART[order] + END)

    ran = gapctl("data", "verify", str(tmp_path / "a.tar"), "--workers", "1")

    assert ran.exit_code == 1
    assert "0 of 4 samples in 1 shards can be used" in ran.out
    assert ran.out.count("members of one key apart") >= 1


@pytest.mark.parametrize("order", APART)
def test_a_tar_whose_members_stand_apart_is_read_by_an_index(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.tar").write_bytes(APART[order] + END)

    ran = gapctl("data", "index", str(tmp_path / "a.tar"), "--out", str(tmp_path / "m.parquet"))

    assert (ran.exit_code, ran.err) == (0, "")
    assert "4 usable of 4 samples" in ran.out
    found = [sample for _, sample in read_rows_with_samples(read_manifest(tmp_path / "m.parquet").samples)]
    assert [(each.key, each.image, each.caption) for each in found] == [
        (f"{n:06d}", pair(n)["jpg"], pair(n)["txt"].decode()) for n in range(4)
    ]


def test_a_manifest_of_keys_apart_says_how_to_mend_the_tar(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(APART["by ending"] + END)
    reasons = tally_manifest(build_manifest(list_shards([str(tmp_path)]), Workers(1))).reasons
    assert "4 keys come back after others: members of one key do not stand beside each other" in reasons
    assert "gapctl data pack" in reasons
    assert "tar --sort=name" in reasons


def test_one_key_apart_leaves_the_others_as_they_are() -> None:
    found = index_shard(sample(1, ["jpg"]) + samples([2, 3]) + sample(1, ["txt", "json"]) + END)
    assert [(each.key, each.problem) for each in found.samples] == [
        ("000001", SampleProblem.APART),
        ("000002", None),
        ("000003", None),
    ]


def test_what_is_left_of_a_key_that_was_complete_is_named_as_apart() -> None:
    found = index_shard(sample(1, ["jpg", "txt"]) + samples([2]) + sample(1, ["json"]) + END)
    assert [each.problem for each in found.samples] == [None, None, SampleProblem.APART]


def test_a_key_whose_samples_are_complete_may_stand_twice() -> None:
    other = tar_of({f"000001.{ending}": content for ending, content in pair(7).items()})
    found = index_shard(samples([1, 2]) + other)
    assert usable(found) == ["000001", "000002", "000001"]


@pytest.mark.parametrize(
    "key", ["./a/b", "folder.d/b", "a b", "ключ", "e\u0301", "-", "0" * 180, "deep/" * 30 + "b", "a'b\"c", "%s{}"]
)
def test_unusual_keys_are_keys(key: str) -> None:
    found = index_shard(tar_of({f"{key}.{ending}": content for ending, content in pair(1).items()}))
    assert (usable(found), found.ignored) == ([key], {})


def test_endings_in_upper_case_are_read() -> None:
    assert usable(index_shard(tar_of({"a.JPG": pair(1)["jpg"], "a.Txt": b"words", "b.JPEG": pair(2)["jpg"]}))) == ["a"]


def test_names_with_several_dots_or_none_are_counted_and_explained(tmp_path: Path) -> None:
    content = tar_of({"a.1.jpg": pair(1)["jpg"], "a.1.txt": b"words", "README": b"x", "b.tar.gz": b"x"})
    (tmp_path / "a.tar").write_bytes(content)

    ran = gapctl("data", "index", str(tmp_path / "a.tar"))

    assert ran.exit_code == 2
    assert "none of its samples can be used; found no samples" in ran.err
    assert "1 (no ending), 1 1.jpg, 1 1.txt, 1 tar.gz (a key ends at the first dot of a name" in ran.err


def links() -> bytes:
    """A hard link for an image, a soft one for a caption, one of each for a whole sample, and one for a json."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("a.jpg", pair(1)["jpg"]), ("a.txt", b"a"), ("b.txt", b"b"), ("c.jpg", pair(2)["jpg"])):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        kinds = {"b.jpg": tarfile.LNKTYPE, "c.txt": tarfile.SYMTYPE, "d.jpg": tarfile.LNKTYPE, "d.txt": tarfile.SYMTYPE}
        for name, kind in {**kinds, "a.json": tarfile.SYMTYPE, "notes": tarfile.SYMTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.jpg"
            archive.addfile(info)
    return buffer.getvalue()


def test_links_are_named_in_the_samples_that_need_them() -> None:
    found = index_shard(links())
    assert {each.key: each.problem for each in found.samples} == {
        "a": None,
        "b": SampleProblem.NOT_A_FILE,
        "c": SampleProblem.NOT_A_FILE,
        "d": SampleProblem.NOT_A_FILE,
    }
    assert found.ignored == {"(links, folders and devices)": 6}


def old_sparse() -> bytes:
    """As GNU tar writes a file in pieces: one block behind the header goes on with the list of them."""
    block = bytearray(header(b"000002.jpg", b"%011o\0" % 9, b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(BLOCK) + b"nine more" + bytes(BLOCK - 9)


def new_sparse() -> bytes:
    records = pax_record(b"GNU.sparse.major", b"1") + pax_record(b"GNU.sparse.name", b"000002.jpg")
    return member("x", records, b"x") + member("GNUSparseFile.7/000002.jpg", b"1\n0\n9\n" + bytes(506) + b"nine more")


@pytest.mark.parametrize("sparse", [old_sparse, new_sparse])
def test_a_sparse_member_is_named_and_what_follows_is_read(sparse: Callable[[], bytes]) -> None:
    found = index_shard(samples([1]) + sparse() + sample(2, ["txt"]) + samples([3]) + END)
    assert [(each.key, each.problem) for each in found.samples] == [
        ("000001", None),
        ("000002", SampleProblem.NOT_A_FILE),
        ("000003", None),
    ]
    assert found.damage is None


FOREIGN = (
    "._000001.jpg",
    "./._a.txt",
    ".DS_Store",
    "Thumbs.db",
    "__MACOSX/._000001.jpg",
    "@eaDir/000001.jpg",
    "x/desktop.ini",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_what_other_systems_leave_in_a_tar_is_counted_and_parts_no_sample(name: str) -> None:
    between = sample(1, ["jpg"]) + member(name, b"\0\5\x16\7") + sample(1, ["txt"]) + END
    found = index_shard(between)
    assert (usable(found), found.ignored) == (["000001"], {"(left by another system)": 1})


@pytest.mark.parametrize("name", ["a.tar", "image.npy", "_a.tar", "thumbs.tar", "a/.b/c.tar", "./a.tar"])
def test_other_names_are_no_leftovers(name: str) -> None:
    assert not is_hidden_or_system_file(name)


def test_what_other_systems_leave_beside_shards_is_passed_over(tmp_path: Path) -> None:
    for name in ("00000.tar", "00001.tar"):
        (tmp_path / name).write_bytes(samples([int(name[4])]) + END)
    for name in ("._00000.tar", ".hidden.tar", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")

    ran = gapctl("data", "verify", str(tmp_path), "--workers", "1")

    assert (ran.exit_code, ran.err) == (0, "")
    assert "2 of 2 samples in 2 shards can be used" in ran.out


def test_a_folder_of_nothing_but_leftovers_has_no_shards(tmp_path: Path) -> None:
    (tmp_path / "._00000.tar").write_bytes(b"\0\5\x16\7")
    ran = gapctl("data", "index", str(tmp_path))
    assert (ran.exit_code, ran.out) == (2, "")
    assert "no .tar file in this folder" in ran.err


def test_shards_are_written_into_a_folder_that_holds_leftovers_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(samples([1]) + END)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    assert gapctl("data", "reshard", str(tmp_path / "a.tar"), "--out", str(tmp_path / "out")).exit_code == 0


def with_pax(content: bytes) -> bytes:
    return member("x", content, b"x") + samples([2]) + END


NO_NUMBER = "expected a number of at most 20 digits"
UNREADABLE = "an extended header at byte 4,096 that cannot be read"
NO_HEADER = "what stands at byte 4,096 is not a tar header"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "pax size of 5,000 digits": (with_pax(pax_record(b"size", b"9" * 5_000)), NO_NUMBER),
    "pax size of 21 digits": (with_pax(pax_record(b"size", b"0" * 21)), NO_NUMBER),
    "pax size below zero": (with_pax(pax_record(b"size", b"-5")), NO_NUMBER),
    "pax size of no digits": (with_pax(pax_record(b"size", b"")), NO_NUMBER),
    "pax size in words": (with_pax(pax_record(b"size", b"\x1b[2Jnine")), NO_NUMBER),
    "pax size beyond the file": (with_pax(pax_record(b"size", b"999999999")), "has two sizes"),
    "pax record longer than its header": (with_pax(b"99 path=a\n"), UNREADABLE),
    "pax record of 10^18 bytes": (with_pax(b"9" * 18 + b" path=a\n"), UNREADABLE),
    "pax record shorter than itself": (with_pax(b"3 path=a\n"), UNREADABLE),
    "pax record of no bytes": (with_pax(b"0 path=a\n"), UNREADABLE),
    "pax record without a value": (with_pax(b"8 patha\n"), UNREADABLE),
    "pax record without its end": (with_pax(b"9 path=ab"), UNREADABLE),
    "pax header of 3 GiB": (header(b"x", b"%011o\0" % (3 << 30), b"x") + END, "cut short: a member at byte 4,096"),
    "pax header of 2 MiB": (with_pax(pax_record(b"comment", b"a" * (2 << 20))), "an extended header of 2,097,1"),
    "pax headers of pax headers": (member("x", pax_record(b"path", b"a"), b"x") * 3_000 + END, "belongs to no member"),
    "long names of long names": (member("x", b"a.jpg\0", b"L") * 3_000 + END, "belongs to no member"),
    "long links of long links": (member("x", b"a.jpg\0", b"K") * 3_000 + END, "belongs to no member"),
    "size of no octal digits": (header(b"2.jpg", b"00000008\0") + END, NO_HEADER),
    "size with an underscore": (header(b"2.jpg", b"0000_001\0") + END, NO_HEADER),
    "size below zero": (header(b"2.jpg", b"-0000001\0") + END, NO_HEADER),
    "size of 88 bits": (header(b"2.jpg", b"\x80" + b"\xff" * 11) + END, "cut short: a member at byte 4,096"),
    "size below zero in base 256": (header(b"2.jpg", b"\xff" * 12) + END, NO_HEADER),
    "size beyond the file": (header(b"2.jpg", b"77777777777\0") + END, "cut short: a member at byte 4,096"),
}


@pytest.mark.parametrize("form", HOSTILE)
def test_a_hostile_header_is_damage_with_its_place_wherever_shards_are_read(form: str, tmp_path: Path) -> None:
    rest, why = HOSTILE[form]
    path = tmp_path / "a.tar"
    path.write_bytes(samples([1]) + rest)

    indexed = gapctl("data", "index", str(path))
    verified = gapctl("data", "verify", str(path), "--workers", "1")
    resharded = gapctl("data", "reshard", str(path), "--out", str(tmp_path / "out"), "--workers", "1")
    measured = gapctl("measure", "--model", "ViT-B-32", "--pretrained", "openai", "--data", str(path))

    assert (indexed.exit_code, verified.exit_code, resharded.exit_code, measured.exit_code) == (0, 1, 0, 2)
    assert f"{path}: damaged after 1 samples: " in indexed.out
    assert f"{path}: a damaged tar, after 1 samples (" in measured.err
    for text in (indexed.out, verified.out, resharded.out, measured.err):
        assert why in text
        assert "\x1b" not in text
    assert "1 usable of 1 samples" in indexed.out


def test_a_png_that_states_absurd_sides_is_left_out() -> None:
    sides = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\xff" * 8 + b"\x08\x02\0\0\0" + bytes(64)
    found = index_shard(tar_of({"a.png": sides, "a.txt": b"words"}))
    assert (found.samples[0].problem, found.samples[0].width) == (SampleProblem.BOMB, (1 << 31) - 1)
