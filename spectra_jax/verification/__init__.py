"""Verifying that our network is the reference network: both score the same windows.

    reference = OnnxReference(Path("spectra-aasist3.onnx"))
    result = verify("lab260/Spectra-AASIST3", reference, trials)
    result.comparison.verdict, result.divergence

A reference is an ONNX export, a PyTorch module, or a published score file. For the first two, the result names the
first stage that differs.
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
