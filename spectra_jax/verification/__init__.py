"""One answer to "is it the same network?": scores beside a reference's, in one run, on the same windows.

    reference = OnnxReference(Path("spectra-aasist3.onnx"))
    found = verify("lab260/Spectra-AASIST3", reference, trials)
    found.comparison.verdict, found.divergence

A reference is an ONNX export, a PyTorch module, or a score file that somebody published. Of the first two, the first
stage that departs is named.
"""

from spectra_jax.verification.references import OnnxReference, Reference, TorchReference, reference_file
from spectra_jax.verification.run import Divergence, Stage, Verification, sample, verify, verify_scores

__all__ = [
    "Divergence",
    "OnnxReference",
    "Reference",
    "Stage",
    "TorchReference",
    "Verification",
    "reference_file",
    "sample",
    "verify",
    "verify_scores",
]
