"""Sentence embeddings in a process of their own: `python -m encore.hub.search.embedding_process MODEL`.

It reads one JSON object a line, `{"id": 1, "kind": "query" | "document", "texts": […]}`, and answers each with
`{"id": 1, "vectors": base64 of float32, little endian, "dimensions": n}` or `{"id": 1, "error": "…"}`; its first line
says `{"ready": true}` or `{"error": "…"}`. It ends with its input, that is, with the process that started it.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any, TextIO


def main() -> int:
    """Load the model and answer until there is no more input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not come between the answers
    try:
        model = _load(sys.argv[1])
    except Exception as error:  # noqa: BLE001 - a model of anybody's: whatever is wrong is said to the parent
        _say(answers, {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]})
        return 1
    _say(answers, {"ready": True})
    for line in sys.stdin:
        _say(answers, _answer(model, json.loads(line)))
    return 0


def _load(name: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(name)


def _answer(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    encode = model.encode_query if request["kind"] == "query" else model.encode_document
    try:
        vectors = encode(request["texts"], normalize_embeddings=True, show_progress_bar=False)
    except Exception as error:  # noqa: BLE001 - as above; the next text may be a better one
        return {"id": request["id"], "error": f"{type(error).__name__}: {error}"[:500]}
    content = base64.b64encode(vectors.astype("<f4").tobytes()).decode("ascii")
    return {"id": request["id"], "vectors": content, "dimensions": int(vectors.shape[1])}


def _say(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
