"""Fashion-MNIST: articles of clothing (Xiao, Rasul and Vollgraf, arXiv 1708.07747)."""

from __future__ import annotations

from encore.data.idx import IdxSet


class FashionMnist(IdxSet):
    """60,000 and 10,000 articles."""

    name = "fashion_mnist"
    title = "Fashion-MNIST: articles of clothing, 10 classes, 60000/10000 pictures of 28×28"
    licence = "MIT"
    url = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
    classes = (
        "t-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )


SET = FashionMnist()
