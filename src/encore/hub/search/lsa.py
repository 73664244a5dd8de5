"""Latent semantic analysis: vectors of the words alone, where there is no embedding model.

TF-IDF (Salton & Buckley, 1988) of words, with log term frequencies, then the truncated singular value decomposition of
the matrix of all papers (Deerwester et al., 1990): X ≈ U S Vᵀ, and a paper x becomes x V, scaled to length 1.

A fit is kept in the hub's folder, so that papers which come later are projected with the same V. It is made anew when
the number of papers has grown by a tenth.
"""

from __future__ import annotations

import secrets
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encore.base.files import replacing

FILE = "lsa.npz"
DIMENSIONS = 128
MAX_WORDS = 30_000
SMALL = 1000
"""Papers up to which every change makes a new fit; it takes a second."""

GROWTH = 1.1
_WORD = r"(?u)\b[^\W\d_][^\W_]+\b"

Matrix = npt.NDArray[np.float32]


class Lsa:
    """A fit.

    Attributes:
        name: of this fit, `lsa-…`; what `Vector.model` says.
        words: the vocabulary, W words.
        idf: (W,) inverse document frequencies.
        components: V, (W, D).
        num_papers: that it was fitted on.
    """

    def __init__(self, name: str, words: Sequence[str], idf: Matrix, components: Matrix, num_papers: int) -> None:
        self.name, self.words, self.idf, self.components = name, list(words), idf, components
        self.num_papers = num_papers

    @classmethod
    def fit(cls, texts: Sequence[str]) -> tuple[Lsa, Matrix]:
        """Fit on texts; D is `DIMENSIONS`, or what a small set has.

        Returns:
            The fit, and the texts' vectors (N, D), zero for a text without a word.
        """
        from sklearn.utils.extmath import randomized_svd

        name = "lsa-" + secrets.token_hex(4)
        vectorizer = _vectorizer(max_features=MAX_WORDS, min_df=2 if len(texts) > SMALL else 1)
        try:
            tfidf = vectorizer.fit_transform(texts)
        except ValueError:  # scikit-learn's word for texts without words
            nothing = np.zeros((0, 1), np.float32)
            return cls(name, [], nothing[:, 0], nothing, len(texts)), np.zeros((len(texts), 1), np.float32)
        _, _, transposed = randomized_svd(tfidf, min(DIMENSIONS, *tfidf.shape), n_iter=3, random_state=0)
        components = np.ascontiguousarray(transposed.T, dtype=np.float32)
        words = vectorizer.get_feature_names_out().tolist()
        fit = cls(name, words, vectorizer.idf_.astype(np.float32), components, len(texts))
        return fit, _of_length_1(np.asarray(tfidf @ components, dtype=np.float32))

    def project(self, texts: Sequence[str]) -> Matrix:
        """Vectors (N, D) of texts that the fit need not have seen."""
        if not self.words:
            return np.zeros((len(texts), 1), np.float32)
        vectorizer = _vectorizer(vocabulary=self.words)
        vectorizer.idf_ = self.idf
        return _of_length_1(np.asarray(vectorizer.transform(texts) @ self.components, dtype=np.float32))

    def outgrown(self, num_papers: int) -> bool:
        """Whether there are so many papers by now that a new fit is due."""
        return num_papers <= SMALL or num_papers > GROWTH * self.num_papers

    def save(self, folder: Path) -> None:
        """Keep it in the hub's folder."""
        with replacing(folder / FILE) as temporary:
            np.savez(
                temporary,
                name=np.array(self.name),
                words=np.array("\n".join(self.words)),
                idf=self.idf,
                components=self.components,
                num_papers=np.array(self.num_papers),
            )

    @classmethod
    def load(cls, folder: Path, name: str | None) -> Lsa | None:
        """The fit of that name; None where it is not there or cannot be read, which a new fit mends."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as kept:
                if str(kept["name"]) != name:
                    return None
                words = str(kept["words"])
                return cls(
                    str(kept["name"]),
                    words.split("\n") if words else [],
                    kept["idf"],
                    kept["components"],
                    int(kept["num_papers"]),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        strip_accents="unicode",
        stop_words="english",
        token_pattern=_WORD,
        sublinear_tf=True,
        dtype=np.float32,
        **options,
    )


def _of_length_1(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled
