"""Files from the Hugging Face Hub: a repository name in, a verified file on disk out.

    fetched = fetch_model("lab260/Spectra-AASIST3")     # the published model, at the revision pinned in `names`
    fetched.weights, fetched.config, fetched.revision, fetched.sha256

| module | what it does |
| --- | --- |
| `names` | names of repositories, revisions and files, and the published model's pins |
| `fetch` | a model, a file or the list of a dataset's files: download, verify |
| `download` | one file: from the cache if possible, otherwise from the Hub |
| `cache` | what the client's cache has of a file, and removing one |
| `client` | the client's address and cache, and a check of every response's headers |
| `explanations` | an exception of the client as a `HubError` that states what happened and what to do |

Of a model only `config.json` and the weights are requested (`model.safetensors`, or the files that
`model.safetensors.index.json` names); never a pickle. The client's own settings hold (`HF_ENDPOINT`, `HF_HOME`,
`HF_TOKEN`, `HF_HUB_OFFLINE`, ...; it waits `HF_HUB_ETAG_TIMEOUT` seconds for a response and `HF_HUB_DOWNLOAD_TIMEOUT`
for the next bytes of a file, 10 each), and so does its cache, which other programs on the machine share. Every failure
is a `HubError`.

`huggingface_hub` is imported by the first fetch and not before.
"""

from __future__ import annotations

from spectra_jax.errors import HubError
from spectra_jax.hub.fetch import (
    DatasetFiles,
    Fetched,
    fetch_config,
    fetch_dataset_file,
    fetch_file,
    fetch_model,
    list_dataset,
    list_dataset_files,
)
from spectra_jax.hub.names import (
    CONFIG,
    ONNX_EXPORTS,
    PUBLISHED,
    PUBLISHED_ONNX,
    PUBLISHED_REVISION,
    PUBLISHED_SHA256,
    WEIGHTS,
    WEIGHTS_INDEX,
    parse,
)

__all__ = [
    "CONFIG",
    "ONNX_EXPORTS",
    "PUBLISHED",
    "PUBLISHED_ONNX",
    "PUBLISHED_REVISION",
    "PUBLISHED_SHA256",
    "WEIGHTS",
    "WEIGHTS_INDEX",
    "DatasetFiles",
    "Fetched",
    "HubError",
    "fetch_config",
    "fetch_dataset_file",
    "fetch_file",
    "fetch_model",
    "list_dataset",
    "list_dataset_files",
    "parse",
]
