"""MAD: MNIST digits with known factors, so that what a caption leaves out can be counted in bits."""
