"""MNIST: handwritten digits (LeCun, Cortes and Burges)."""

from __future__ import annotations

from encore.data.idx import IdxSet


class Mnist(IdxSet):
    """60,000 and 10,000 digits."""

    name = "mnist"
    title = "MNIST: handwritten digits, 10 classes, 60000/10000 pictures of 28×28"
    licence = "CC BY-SA 3.0"
    url = "https://ossci-datasets.s3.amazonaws.com/mnist"
    classes = tuple("0123456789")


SET = Mnist()
