"""Classical restoration methods to compare the learned ones with.

Pictures are float32 arrays [H, W, 3] in [0, 1]; every function returns a new one, clipped to [0,
1], and leaves its inputs as they were. Noise is white and Gaussian, given by its standard deviation
in units of [0, 1]. A blur kernel [h, w] has odd sides and sums to 1; its centre is its middle; the
blur is a convolution. Deconvolutions take what lies beyond the picture's border as unknown, so that
they suit a real photograph.

The constants below were chosen once, by mean PSNR on three 256x256 crops of CID22's validation set;
those of deconvolution at a Gaussian blur of sigma 2 and noise 0.01, with an eye on other noise and
on motion blur.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import scipy
import skimage
from numpy.typing import NDArray
from PIL import Image

from restore.errors import BadArgument

# Pictures [H, W, 3] in [0, 1], and blur kernels [h, w].
Photo = NDArray[np.float32]
Kernel = NDArray[np.floating]
# Complex Fourier transforms along height and width.
Spectrum = NDArray[np.complexfloating]

# The radii 1, 3, 5 and 7 tried, both methods: within 0.3 dB of the best at 50 % and at 90 %
# missing.
INPAINT_RADIUS = 3
# Times noise²: best at noise 0.005, 0.01 and 0.03 alike; flat from 30 to 100.
WIENER_BALANCE = 50.0
# Best at noise 0.01 (50: −0.16 dB). Near the best elsewhere: 1/noise for a Gaussian, half that for
# motion.
RICHARDSON_LUCY_ITERATIONS = 100
# Estimates of the margin: worth 5 to 10 dB at a motion blur 15 pixels long, under 0.1 dB at the
# Gaussian.
WIENER_ROUNDS = 100
# Times noise^1.5: within 0.2 dB of the best at the Gaussian and at a motion blur, noise 0.003 to
# 0.03.
TV_DEBLUR = 0.8
# Times noise: the best mean over noise 15, 25 and 50 of 255, whose own optima are 0.7, 0.8 and 0.9.
TV_WEIGHT = 0.8
# Patch and search in pixels, h in noise: the best mean over 15, 25, 50 of 255; 1.8 dB above
# OpenCV's at 25.
NLM_PATCH = 5
NLM_DISTANCE = 10
NLM_STRENGTH = 0.5


def upscale(
    image: Photo, size: tuple[int, int], kernel: Literal["bicubic", "lanczos"] = "bicubic"
) -> Photo:
    """Resize by Pillow in floating-point numbers (mode "F"), without rounding to 8 bits.

    Pillow's bicubic is Keys' with a = −1/2, like MATLAB's `imresize`; its Lanczos has three lobes.
    A size smaller than the picture's is reached with antialiasing.

    Args:
        size: (height, width).

    Raises:
        BadArgument: The kernel is not one of these.

    References:
        R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP
        29(6), 1981.
    """
    filters = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    resample = filters[_one_of(kernel, filters)]
    height, width = size

    def resize(plane: Photo) -> Photo:
        return np.asarray(Image.fromarray(plane).resize((width, height), resample))

    return _by_channel(image, resize).clip(0, 1)


def inpaint(
    image: Photo,
    mask: NDArray[np.bool_],
    method: Literal["telea", "navier-stokes", "biharmonic"] = "telea",
) -> Photo:
    """Fill the pixels where `mask` [H, W] is True; the others are returned unchanged.

    "telea" and "navier-stokes" by OpenCV in 8 bits, "biharmonic" by scikit-image in float: the best
    of the three on scattered pixels, and the slowest (0.2 s for 256x256 with half of them missing).

    Raises:
        BadArgument: The method is not one of these, the mask's shape is not the picture's, or no
            pixel is known.

    References:
        A. Telea, "An image inpainting technique based on the fast marching method", J. Graphics
        Tools 9(1), 2004.
        M. Bertalmio, A. L. Bertozzi, G. Sapiro, "Navier-Stokes, fluid dynamics, and image and video
        inpainting", CVPR 2001.
        S. B. Damelin, N. S. Hoang, "On surface completion and image inpainting by biharmonic
        functions: numerical aspects", Int. J. Mathematics and Mathematical Sciences, 2018.
    """
    flags = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS, "biharmonic": None}
    flag = flags[_one_of(method, flags)]
    if mask.shape != image.shape[:2] or mask.all():
        raise BadArgument(
            f"the mask, {mask.shape}, must be [H, W] of the picture and leave some pixel known"
        )
    if not mask.any():
        return image.clip(0, 1)
    if flag is None:
        filled = skimage.restoration.inpaint_biharmonic(image, mask, channel_axis=-1)
    else:
        eight_bit = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
        filled = cv2.inpaint(eight_bit, mask.astype(np.uint8), INPAINT_RADIUS, flag)
        filled = filled / np.float32(255)

    return np.where(mask[..., None], filled, image).clip(0, 1).astype(np.float32)


def wiener(image: Photo, kernel2d: Kernel, noise: float) -> Photo:
    """Wiener-Hunt deconvolution by scikit-image, with its Laplacian as the regulariser.

    x = K*y / (|K|² + b |Λ|²) in frequencies, with the balance b = WIENER_BALANCE · noise².

    References:
        B. R. Hunt, "A matrix theory proof of the discrete convolution theorem", IEEE Trans. Audio
        and Electroacoustics 19(4), 1971.
        F. Orieux, J.-F. Giovannelli, T. Rodet, "Bayesian estimation of regularization and point
        spread function parameters for Wiener-Hunt deconvolution", J. Opt. Soc. Am. A 27(7), 2010.
    """
    balance = WIENER_BALANCE * _at_least_rounding(noise) ** 2
    kernel = _checked(kernel2d)

    def deconvolve(plane: Photo) -> Photo:
        return skimage.restoration.wiener(plane, kernel, balance, clip=False)

    return _with_margin(image, kernel, lambda wide: _by_channel(wide, deconvolve), WIENER_ROUNDS)


def richardson_lucy(
    image: Photo, kernel2d: Kernel, iterations: int = RICHARDSON_LUCY_ITERATIONS
) -> Photo:
    """Richardson-Lucy deconvolution: x ← x · Kᵀ(m y / K x) / Kᵀ m.

    m is 1 at the measured pixels and 0 beyond. Stopping early keeps the noise down: 0.5/noise to
    1/noise iterations are fair. (Not scikit-image's, whose zeros beyond the border spoil the rim.)

    References:
        W. H. Richardson, "Bayesian-based iterative method of image restoration", J. Opt. Soc. Am.
        62(1), 1972.
        L. B. Lucy, "An iterative technique for the rectification of observed distributions",
        Astronomical J. 79, 1974.
        M. Bertero, P. Boccacci, "A simple method for the reduction of boundary effects in the
        Richardson-Lucy approach to image deconvolution", Astronomy & Astrophysics 437, 2005 (the
        border).
    """
    kernel = _checked(kernel2d)
    wide, inside = _widened(image.clip(1e-4, None), kernel)
    shape = wide.shape[:2]
    measured = wide[inside]
    blur = _transform(_centred(kernel, shape))[..., None]

    def back(values: Photo | float) -> Photo:
        """Kᵀ of values at the measured pixels, zero elsewhere."""
        canvas = np.zeros_like(wide)
        canvas[inside] = values
        return _inverse_transform(blur.conj() * _transform(canvas), shape)

    weight = back(1.0).clip(1e-2, None)  # pixels that no measured one has seen stay near zero
    x = np.full_like(wide, 0.5)  # flat: a start from the picture would keep its noise

    for _ in range(iterations):
        predicted = _inverse_transform(blur * _transform(x), shape)[inside]
        x = (x * back(measured / predicted.clip(1e-4, None)) / weight).clip(0, None)

    return x[inside].clip(0, 1).astype(np.float32)


def total_variation(image: Photo, noise: float, kernel2d: Kernel | None = None) -> Photo:
    """Total-variation denoising by scikit-image, channel by channel; with a kernel, `tv_deblur`.

    References:
        L. I. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal
        algorithms", Physica D 60, 1992.
        A. Chambolle, "An algorithm for total variation minimization and applications", JMIV 20,
        2004.
    """
    if kernel2d is not None:
        return tv_deblur(image, kernel2d, noise)
    if noise <= 0:
        return image.clip(0, 1)

    smooth = skimage.restoration.denoise_tv_chambolle(
        image, weight=TV_WEIGHT * noise, eps=2e-5, max_num_iter=400, channel_axis=-1
    )

    return smooth.clip(0, 1).astype(np.float32)


def tv_deblur(image: Photo, kernel2d: Kernel, noise: float, iterations: int = 60) -> Photo:
    """Deconvolution with colour total variation: argmin ½‖k∗x − y‖² + λ Σ‖∇x‖, by ADMM with FFTs.

    The first norm is over the measured pixels only, x reaching beyond them. The second, at each
    pixel, is over both derivatives and the three colours, so that edges of the colours stay
    together. λ = TV_DEBLUR · noise^1.5.

    References:
        M. S. C. Almeida, M. A. T. Figueiredo, "Deconvolving images with unknown boundaries using
        the alternating direction method of multipliers", IEEE Trans. Image Processing 22(8), 2013
        (the algorithm).
        P. Blomgren, T. F. Chan, "Color TV: total variation methods for restoration of vector-valued
        images", IEEE Trans. Image Processing 7(3), 1998.
    """
    kernel = _checked(kernel2d)
    strength = TV_DEBLUR * _at_least_rounding(noise) ** 1.5
    estimate = _tv_admm(image, kernel, strength, iterations)
    return estimate[_widened(image, kernel)[1]].clip(0, 1).astype(np.float32)


def non_local_means(image: Photo, noise: float) -> Photo:
    """Non-local means by scikit-image, in its fast mode, on the three colours together.

    References:
        A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2005.
        J. Darbon et al., "Fast nonlocal filtering applied to electron cryomicroscopy", ISBI 2008
        (the fast mode).
    """
    if noise <= 0:
        return image.clip(0, 1)

    smooth = skimage.restoration.denoise_nl_means(
        image,
        NLM_PATCH,
        NLM_DISTANCE,
        h=NLM_STRENGTH * noise,
        sigma=noise,
        fast_mode=True,
        channel_axis=-1,
    )
    return smooth.clip(0, 1).astype(np.float32)


def _tv_admm(image: Photo, kernel: Kernel, strength: float, iterations: int) -> Photo:
    """ADMM with d = ∇x and z = k∗x, on the wide canvas; z is free where nothing was measured."""
    wide, inside = _widened(image, kernel)
    shape = wide.shape[:2]
    measured = np.zeros((*shape, 1), np.float32)
    measured[inside] = 1
    penalty = 10 * strength  # with these, within 0.02 dB of the limit after 60 rounds
    blur_penalty = 0.3

    blur = _transform(_centred(kernel, shape))[..., None]
    delta = _centred(np.ones((1, 1)), shape)
    laplacian = _transform(_gradient_adjoint(_gradient(delta)))[..., None].real
    normal = blur_penalty * np.abs(blur) ** 2 + penalty * laplacian
    z: NDArray[np.floating] = wide
    d = _gradient(wide)
    z_dual = np.zeros_like(z)
    d_dual = np.zeros_like(d)

    for _ in range(iterations):
        wanted = blur_penalty * blur.conj() * _transform(z - z_dual)
        wanted += penalty * _transform(_gradient_adjoint(d - d_dual))
        x = _inverse_transform(wanted / normal, shape)
        blurred = _inverse_transform(blur * wanted / normal, shape) + z_dual
        z = (measured * wide + blur_penalty * blurred) / (measured + blur_penalty)
        z_dual = blurred - z
        steps = _gradient(x) + d_dual
        length = np.sqrt((steps**2).sum((0, 3), keepdims=True))
        d = steps * (1 - strength / penalty / length.clip(strength / penalty, None))
        d_dual = steps - d

    return x


def _transform(x: NDArray[np.floating]) -> Spectrum:
    return scipy.fft.rfft2(x, axes=(0, 1))


def _inverse_transform(spectrum: Spectrum, shape: tuple[int, int]) -> Photo:
    return scipy.fft.irfft2(spectrum, shape, axes=(0, 1))


def _gradient(x: Photo) -> Photo:
    """Forward differences down and across, circular: [2, *x.shape]."""
    return np.stack([np.roll(x, -1, 0) - x, np.roll(x, -1, 1) - x])


def _gradient_adjoint(d: Photo) -> Photo:
    return np.roll(d[0], 1, 0) - d[0] + np.roll(d[1], 1, 1) - d[1]


def _centred(kernel: Kernel, shape: tuple[int, int]) -> Photo:
    """The kernel on a canvas of this shape, with its middle at the origin."""
    canvas = np.zeros(shape, np.float32)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.roll(canvas, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))


def _widened(image: Photo, kernel: Kernel) -> tuple[Photo, tuple[slice, slice]]:
    """The picture mirrored outwards by the kernel's size, and where the picture is in it."""
    height, width = image.shape[:2]
    down, across = kernel.shape
    wide = np.pad(image, ((down, down), (across, across), (0, 0)), mode="symmetric")
    return wide, (slice(down, down + height), slice(across, across + width))


def _with_margin(
    image: Photo, kernel: Kernel, deconvolve: Callable[[Photo], Photo], rounds: int
) -> Photo:
    """Deconvolve a wider picture whose unknown margin is mirrored, then predicted by the estimate.

    Filling in missing data by its prediction is expectation-maximisation; without it a long or
    lopsided kernel meets a margin that it cannot have blurred, and rings across the picture.
    """
    wide, inside = _widened(image, kernel)
    blur = _transform(_centred(kernel, wide.shape[:2]))[..., None]
    for _ in range(rounds):
        estimate = deconvolve(wide)  # not clipped: that would keep the rounds from converging
        wide = _inverse_transform(blur * _transform(estimate), wide.shape[:2])
        wide[inside] = image

    return estimate[inside].clip(0, 1).astype(np.float32)


def _by_channel(image: Photo, function: Callable[[Photo], Photo]) -> Photo:
    planes = [
        function(np.ascontiguousarray(image[..., channel])) for channel in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1).astype(np.float32)


def _at_least_rounding(noise: float) -> float:
    """The noise level, at least that of rounding to 8 bits, 1/(255 √12)."""
    return max(noise, 1 / (255 * 12**0.5))


def _checked(kernel: Kernel) -> Kernel:
    odd = all(side % 2 for side in kernel.shape)
    if kernel.ndim != 2 or not odd or abs(kernel.sum() - 1) > 1e-3:
        raise BadArgument(
            f"a blur kernel must be [h, w] with odd sides and sum to 1; this one is {kernel.shape} "
            f"and sums to {kernel.sum():.4g}"
        )
    return kernel


def _one_of(choice: str, choices: dict) -> str:
    if choice not in choices:
        raise BadArgument(f"{choice!r} is none of {', '.join(choices)}")
    return choice
