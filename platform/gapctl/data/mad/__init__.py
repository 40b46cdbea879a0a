"""MAD: MNIST digits with known factors, so that the information that a caption omits can be counted in bits."""
