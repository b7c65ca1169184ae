"""Classical restoration methods, the honest competitors of the learned ones.

Pictures are float32 arrays [H, W, 3] in [0, 1]; every function returns a new one, clipped to [0, 1], and leaves
its inputs as they were. Noise is white and Gaussian, given by its standard deviation in units of [0, 1]. A blur
kernel [h, w] has odd sides and sums to 1; its centre is its middle. It is applied by convolution. Deconvolutions
see the picture mirrored outwards by the kernel's size, and the margin is cropped from the result.

The constants below were chosen once, by mean PSNR on three 256x256 crops of CID22's validation set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image
from skimage import restoration

from restore.errors import BadArgument

Photo = NDArray[np.float32]
Kernel = NDArray[np.floating]

@@CONST@@


def upscale(image: Photo, size: tuple[int, int], kernel: Literal["bicubic", "lanczos"] = "bicubic") -> Photo:
    """Enlarge to `size` = (height, width) by Pillow's resampling in float (mode "F"), no 8-bit rounding.

    Pillow's bicubic is Keys' with a = −1/2, like MATLAB's `imresize`; its Lanczos has three lobes. A smaller size
    than the picture's is reached with antialiasing.

    Raises
    ------
    BadArgument
        If the kernel is another.

    References
    ----------
    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29(6), 1981.
    """
    filters = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    resample = filters[_one_of(kernel, filters)]
    height, width = size
    return _by_channel(image, lambda plane: np.asarray(Image.fromarray(plane).resize((width, height), resample)))


def inpaint(
    image: Photo, mask: NDArray[np.bool_], method: Literal["telea", "navier-stokes", "biharmonic"] = "telea"
) -> Photo:
    """Fill the pixels where `mask` [H, W] is True; the others come back as they were.

    "telea" and "navier-stokes" by OpenCV in 8 bits, "biharmonic" by scikit-image in float (the best of the three
    on scattered pixels, about 0.2 s for 256x256 with half of them missing, and the slowest on large holes).

    Raises
    ------
    BadArgument
        If the method is another, the mask's shape is not the picture's, or nothing is known.

    References
    ----------
    A. Telea, "An image inpainting technique based on the fast marching method", J. Graphics Tools 9(1), 2004.
    M. Bertalmio, A. L. Bertozzi, G. Sapiro, "Navier-Stokes, fluid dynamics, and image and video inpainting",
    CVPR 2001. S. B. Damelin, N. S. Hoang, "On surface completion and image inpainting by biharmonic functions:
    numerical aspects", Int. J. Mathematics and Math. Sciences, 2018.
    """
    flags = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS, "biharmonic": None}
    flag = flags[_one_of(method, flags)]
    if mask.shape != image.shape[:2] or mask.all():
        raise BadArgument(f"the mask, {mask.shape}, must be [H, W] of the picture and leave some pixel known")
    if not mask.any():
        return image.clip(0, 1)
    if flag is None:
        filled = restoration.inpaint_biharmonic(image, mask, channel_axis=-1)
    else:
        eight_bit = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
        filled = cv2.inpaint(eight_bit, mask.astype(np.uint8), INPAINT_RADIUS, flag) / np.float32(255)
    return np.where(mask[..., None], filled, image).clip(0, 1).astype(np.float32)


def wiener(image: Photo, kernel2d: Kernel, noise: float) -> Photo:
    """Wiener-Hunt deconvolution by scikit-image, with its Laplacian as the regulariser.

    x = K*y / (|K|² + b |Λ|²) in frequencies, with the balance b = WIENER_BALANCE · noise².

    References
    ----------
    B. R. Hunt, "A matrix theory proof of the discrete convolution theorem", IEEE Trans. Audio Electroacoustics
    19(4), 1971. F. Orieux, J.-F. Giovannelli, T. Rodet, "Bayesian estimation of regularization and point spread
    function parameters for Wiener-Hunt deconvolution", J. Opt. Soc. Am. A 27(7), 2010.
    """
    balance = WIENER_BALANCE * _at_least_rounding(noise) ** 2
    kernel = _checked(kernel2d)
    return _mirrored(
        image,
        kernel,
        lambda wide: _by_channel(wide, lambda plane: restoration.wiener(plane, kernel, balance, clip=False)),
    )


def richardson_lucy(image: Photo, kernel2d: Kernel, iterations: int = RICHARDSON_LUCY_ITERATIONS) -> Photo:
    """Richardson-Lucy deconvolution by scikit-image; stopping early is what keeps the noise down.

    References
    ----------
    W. H. Richardson, "Bayesian-based iterative method of image restoration", J. Opt. Soc. Am. 62(1), 1972.
    L. B. Lucy, "An iterative technique for the rectification of observed distributions", Astronomical J. 79, 1974.
    """
    kernel = _checked(kernel2d)

    def deconvolve(plane: Photo) -> Photo:
        positive = plane.clip(1e-4, None)  # the method divides by what it is given
        return restoration.richardson_lucy(positive, kernel, iterations, clip=False, filter_epsilon=1e-6)

    return _mirrored(image, kernel, lambda wide: _by_channel(wide, deconvolve, clip=False))


def total_variation(image: Photo, noise: float, kernel2d: Kernel | None = None) -> Photo:
    """Total-variation denoising by scikit-image, channel by channel; with a kernel, `tv_deblur`.

    References
    ----------
    L. I. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 60,
    1992. A. Chambolle, "An algorithm for total variation minimization and applications", JMIV 20, 2004.
    """
    if kernel2d is not None:
        return tv_deblur(image, kernel2d, noise)
    if noise <= 0:
        return image.clip(0, 1)
    smooth = restoration.denoise_tv_chambolle(
        image, weight=TV_WEIGHT * noise, eps=2e-5, max_num_iter=400, channel_axis=-1
    )
    return smooth.clip(0, 1).astype(np.float32)


def tv_deblur(image: Photo, kernel2d: Kernel, noise: float, iterations: int = 60) -> Photo:
    """Deconvolution with colour total variation: argmin ½‖k∗x − y‖² + λ Σ‖∇x‖, by ADMM with FFTs.

    The norm at a pixel is over both derivatives and the three colours, so edges of the colours stay together.
    λ = TV_DEBLUR · noise², as for a maximum a posteriori estimate.

    References
    ----------
    Y. Wang, J. Yang, W. Yin, Y. Zhang, "A new alternating minimization algorithm for total variation image
    reconstruction", SIAM J. Imaging Sciences 1(3), 2008 (the splitting). P. Blomgren, T. F. Chan, "Color TV:
    total variation methods for restoration of vector-valued images", IEEE Trans. Image Processing 7(3), 1998.
    """
    kernel = _checked(kernel2d)
    strength = TV_DEBLUR * _at_least_rounding(noise) ** 2
    return _mirrored(image, kernel, lambda wide: _tv_admm(wide, kernel, strength, iterations))


def non_local_means(image: Photo, noise: float) -> Photo:
    """Non-local means by scikit-image (fast mode, on the three colours together, told the noise level).

    References
    ----------
    A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2005. J. Darbon et al.,
    "Fast nonlocal filtering applied to electron cryomicroscopy", ISBI 2008 (the fast mode).
    """
    if noise <= 0:
        return image.clip(0, 1)
    smooth = restoration.denoise_nl_means(
        image, NLM_PATCH, NLM_DISTANCE, h=NLM_STRENGTH * noise, sigma=noise, fast_mode=True, channel_axis=-1
    )
    return smooth.clip(0, 1).astype(np.float32)


def _tv_admm(blurred: Photo, kernel: Kernel, strength: float, iterations: int) -> Photo:
    """ADMM on x with d = ∇x, circular boundary; u is the scaled multiplier."""
    shape = blurred.shape[:2]
    penalty = 10 * strength  # steps of about a tenth of the range are kept as edges; converges in some 60 rounds

    def forward(x):
        return scipy.fft.rfft2(x, axes=(0, 1))

    def gradient(x):
        return np.stack([np.roll(x, -1, 0) - x, np.roll(x, -1, 1) - x])

    def gradient_adjoint(d):
        return np.roll(d[0], 1, 0) - d[0] + np.roll(d[1], 1, 1) - d[1]

    blur = forward(_centred(kernel, shape))[..., None]
    laplacian = forward(gradient_adjoint(gradient(_centred(np.ones((1, 1)), shape))))[..., None].real
    normal = np.abs(blur) ** 2 + penalty * laplacian
    data = blur.conj() * forward(blurred)
    d = gradient(blurred)
    u = np.zeros_like(d)
    for _ in range(iterations):
        x = scipy.fft.irfft2((data + penalty * forward(gradient_adjoint(d - u))) / normal, shape, axes=(0, 1))
        v = gradient(x) + u
        length = np.sqrt((v**2).sum((0, 3), keepdims=True))
        d = v * (1 - strength / penalty / length.clip(strength / penalty, None))
        u = v - d
    return x


def _centred(kernel: Kernel, shape: tuple[int, int]) -> Photo:
    """The kernel on a canvas of that shape, its middle at the origin."""
    canvas = np.zeros(shape, np.float32)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.roll(canvas, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))


def _mirrored(image: Photo, kernel: Kernel, deconvolve: Callable[[Photo], Photo]) -> Photo:
    """Deconvolve the picture mirrored outwards by the kernel's size, then crop and clip."""
    (height, width), (down, across) = image.shape[:2], kernel.shape
    wide = np.pad(image, ((down, down), (across, across), (0, 0)), mode="symmetric")
    return deconvolve(wide)[down : down + height, across : across + width].clip(0, 1).astype(np.float32)


def _by_channel(image: Photo, function: Callable[[Photo], Photo], clip: bool = True) -> Photo:
    planes = [function(np.ascontiguousarray(image[..., channel])) for channel in range(image.shape[2])]
    result = np.stack(planes, axis=-1).astype(np.float32)
    return result.clip(0, 1) if clip else result


def _at_least_rounding(noise: float) -> float:
    """No picture is better than 8 bits: rounding alone has a standard deviation of 1/(255 √12)."""
    return max(noise, 1 / (255 * 12**0.5))


def _checked(kernel: Kernel) -> Kernel:
    if kernel.ndim != 2 or not all(side % 2 for side in kernel.shape) or abs(kernel.sum() - 1) > 1e-3:
        raise BadArgument(
            f"a blur kernel must be [h, w] with odd sides and sum to 1; this one is {kernel.shape} "
            f"and sums to {kernel.sum():.4g}"
        )
    return kernel


def _one_of(choice: str, choices: dict) -> str:
    if choice not in choices:
        raise BadArgument(f"{choice!r} is none of {', '.join(choices)}")
    return choice
