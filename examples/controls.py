"""Two simple systems to compare a detector with: on a small corpus, properties of the recordings can give a low EER.

LFCC and GMM: the classical countermeasure. Linear-frequency cepstra of 20 ms frames with their first and second
differences, a Gaussian mixture for each class, and the mean log-likelihood ratio as the score. After Sahidullah et al.,
"A comparison of features for synthetic speech detection" (2015), with few components, as the corpus is small.

Shortcuts: logistic regression on eleven numbers that do not depend on how the speech was generated: level, peak,
duration, silence and the energies of six bands. An EER below 0.5 shows that the recordings of the two classes differ.

Both are trained on the splits train and dev, need scikit-learn, and take seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import fft, signal

RATE = 16_000
FRAME, HOP, FFT = 320, 160, 512
FILTERS = 20
COMPONENTS = 32
BANDS = (0, 500, 1000, 2000, 3500, 5500, 8000)


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Power (frames, FFT // 2 + 1) of Hann-windowed frames."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    return np.abs(fft.rfft(frames * signal.windows.hann(FRAME), FFT)) ** 2


def lfcc(samples: np.ndarray) -> np.ndarray:
    """Cepstra with first and second differences, (frames, 3 * FILTERS)."""
    edges = np.linspace(0, RATE / 2, FILTERS + 2)
    frequency = np.arange(FFT // 2 + 1) * RATE / FFT
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    bank = np.maximum(np.minimum(rising, falling), 0)
    cepstra = fft.dct(np.log(spectrogram(samples) @ bank.T + 1e-10), norm="ortho")
    first = np.gradient(cepstra, axis=0)
    return np.concatenate([cepstra, first, np.gradient(first, axis=0)], axis=1)


def shortcuts(samples: np.ndarray) -> np.ndarray:
    """Level, peak, duration, share of silence, noise floor, and the share of each band in dB: (11,)."""
    power = spectrogram(samples)
    level = 10 * np.log10(power.sum(axis=1) + 1e-12)
    frequency = np.arange(power.shape[1]) * RATE / FFT
    share = [
        power[:, (frequency >= low) & (frequency < high)].sum() / power.sum() for low, high in itertools.pairwise(BANDS)
    ]
    return np.array(
        [
            20 * np.log10(np.abs(samples).max() + 1e-9),
            10 * np.log10(np.mean(samples**2) + 1e-12),
            len(samples) / RATE,
            np.mean(level < level.max() - 40),
            np.percentile(level, 5),
            *(10 * np.log10(np.array(share) + 1e-9)),
        ]
    )


def score_by_lfcc_gmm(train: Sequence[np.ndarray], bonafide: np.ndarray, clips: Sequence[np.ndarray]) -> np.ndarray:
    """Scores (clips,), by mixtures fitted to `train`; `bonafide` (train,) is whether each of those is bona fide."""
    from sklearn.mixture import GaussianMixture

    features = [lfcc(clip) for clip in train]
    mixtures = []
    for label in (True, False):
        frames = np.concatenate([clip for clip, truth in zip(features, bonafide, strict=True) if truth == label])
        mixtures.append(GaussianMixture(COMPONENTS, covariance_type="diag", random_state=0, reg_covar=1e-4).fit(frames))
    return np.array([np.subtract(*(mixture.score(lfcc(clip)) for mixture in mixtures)) for clip in clips])


def score_by_shortcuts(train: Sequence[np.ndarray], bonafide: np.ndarray, clips: Sequence[np.ndarray]) -> np.ndarray:
    """Scores (clips,), by a regression fitted to `train`; `bonafide` (train,) is whether each of those is bona fide."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    model.fit([shortcuts(clip) for clip in train], bonafide)
    return model.decision_function([shortcuts(clip) for clip in clips])
