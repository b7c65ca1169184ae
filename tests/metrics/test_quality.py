"""Metrics against independent implementations: scikit-image, a formula by hand, convolutions by
hand.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from support.alexnet import write_random_trunk
from support.file_server import serving
from torchvision.models import AlexNet_Weights

import pretrained
from pretrained import store
from pretrained.catalogue import metrics
from pretrained.errors import CheckpointError
from restore.errors import BadArgument, Unavailable, UnreadableInput
from restore.metrics import quality
from restore.metrics.quality import (
    consistency,
    find_lpips_trunk,
    load_lpips,
    luma,
    psnr,
    psnr_y,
    ssim,
)


@pytest.fixture(scope="module")
def pair():
    """Two crops of a photograph [2, 3, 72, 80] and noisy versions, the second noisier."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1) / 255
    truth = torch.stack([photo[:, 100:172, 180:260], photo[:, 300:372, 20:100]])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (truth + torch.tensor([0.02, 0.1]).view(2, 1, 1, 1) * noise).clamp(0, 1), truth


def as_arrays(pictures: torch.Tensor) -> list[np.ndarray]:
    return [picture.permute(1, 2, 0).double().numpy() for picture in pictures]


def test_psnr_agrees_with_scikit_image(pair):
    expected = [
        peak_signal_noise_ratio(truth, estimate, data_range=1)
        for estimate, truth in zip(*map(as_arrays, pair), strict=True)
    ]
    np.testing.assert_allclose(psnr(*pair), expected, rtol=1e-5)


def test_psnr_of_equal_pictures_is_infinite(pair):
    assert torch.isinf(psnr(pair[1], pair[1])).all()


def test_ssim_agrees_with_scikit_image(pair):
    expected = [
        structural_similarity(
            truth,
            estimate,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=-1,
        )
        for estimate, truth in zip(*map(as_arrays, pair), strict=True)
    ]
    np.testing.assert_allclose(ssim(*pair), expected, atol=1e-4)
    np.testing.assert_allclose(ssim(pair[1], pair[1]), 1, atol=1e-5)


def test_luma_of_black_white_and_primaries():
    colours = torch.tensor(
        [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float32
    )
    # MATLAB: rgb2ycbcr(uint8(255 * colours)) gives these Y
    rounded = (luma(colours.view(5, 3, 1, 1)) * 255).round().flatten()
    assert rounded.tolist() == [16, 235, 81, 145, 41]


def test_psnr_y_is_the_formula_by_hand_inside_the_border(pair):
    estimate, truth = pair
    difference = (estimate - truth)[:, :, 4:-4, 4:-4].double()
    weighted = (difference * torch.tensor([65.481, 128.553, 24.966]).view(3, 1, 1)).sum(1)  # of 255
    expected = 20 * torch.log10(255 / weighted.square().mean((1, 2)).sqrt())
    np.testing.assert_allclose(psnr_y(estimate, truth, border=4), expected, rtol=1e-5)


def test_psnr_y_ignores_what_lies_in_the_border(pair):
    estimate, truth = pair
    damaged = estimate.clone()
    damaged[..., :3, :] = 0
    damaged[..., -3:] = 1
    assert torch.equal(psnr_y(damaged, truth, border=3), psnr_y(estimate, truth, border=3))
    assert (psnr_y(damaged, truth) < psnr_y(estimate, truth)).all()


def test_consistency_is_the_noise_of_the_measurement():
    class EveryOther:
        def A(self, x):
            return x[..., ::2]

    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    noise = torch.randn(2, 3, 64, 32, generator=generator) * torch.tensor([0.1, 0.4]).view(
        2, 1, 1, 1
    )
    found = consistency(EveryOther(), clean, EveryOther().A(clean) + noise)
    np.testing.assert_allclose(found, [0.1, 0.4], rtol=0.03)
    assert consistency(EveryOther(), clean, clean[..., ::2]).tolist() == [0, 0]
    with pytest.raises(BadArgument, match="shape"):
        consistency(EveryOther(), clean, clean)


@pytest.mark.parametrize("metric", [psnr, psnr_y, ssim])
def test_shapes_that_differ_are_refused_instead_of_broadcast(metric, pair):
    with pytest.raises(BadArgument, match="do not compare"):
        metric(pair[0], pair[1][:1])


def test_pictures_too_small_are_refused():
    small = torch.zeros(1, 3, 10, 40)
    with pytest.raises(BadArgument, match="11 are needed"):
        ssim(small, small)
    with pytest.raises(BadArgument, match="leaves nothing"):
        psnr_y(small, small, border=5)


# --- LPIPS ---


@pytest.fixture
def no_trunk(monkeypatch, tmp_path):
    """No variable, empty caches; gives the folder of torchvision's."""
    monkeypatch.delenv(quality.TRUNK_VARIABLE, raising=False)
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "restore"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def random_trunk(tmp_path_factory) -> Path:
    return write_random_trunk(tmp_path_factory.mktemp("lpips"))


def lpips_by_hand(weights: dict, estimate: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """LPIPS 0.1 written out: torchvision's AlexNet, unit features, the package's heads."""
    heads = torch.load(
        str(files(lpips) / "weights/v0.1/alex.pth"), map_location="cpu", weights_only=True
    )

    def features(x):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        x = (x - mean) / deviation
        layers = []
        for index, (stride, padding) in {
            0: (4, 2),
            3: (1, 2),
            6: (1, 1),
            8: (1, 1),
            10: (1, 1),
        }.items():
            if index in (3, 6):
                x = F.max_pool2d(x, 3, 2)
            weight = weights[f"features.{index}.weight"]
            bias = weights[f"features.{index}.bias"]
            x = F.conv2d(x, weight, bias, stride=stride, padding=padding).relu()
            layers.append(x / x.norm(dim=1, keepdim=True))
        return layers

    pairs = zip(features(estimate), features(truth), strict=True)
    return sum(
        F.conv2d((a - b).square().nan_to_num(), heads[f"lin{i}.model.1.weight"]).mean((1, 2, 3))
        for i, (a, b) in enumerate(pairs)
    )


def test_lpips_without_a_trunk_says_where_to_put_one(no_trunk):
    with pytest.raises(Unavailable, match=quality.TRUNK_VARIABLE) as raised:
        load_lpips()
    assert str(no_trunk) in str(raised.value)
    assert "restore models get lpips-alex" in str(raised.value)


def test_a_plain_install_gets_the_trunk_by_its_name(
    no_trunk, random_trunk, tmp_path, monkeypatch, command, pair
):
    """From a server or a file, compared with the digest of the catalogue; LPIPS then finds it."""
    own = metrics()["lpips-alex"]
    assert own.file is not None
    assert own.file.sha256 is not None
    # the first digits, which torch.hub compares itself, are in the name
    assert own.file.name == Path(AlexNet_Weights.IMAGENET1K_V1.url).name
    assert own.file.addresses == (AlexNet_Weights.IMAGENET1K_V1.url,)
    assert own.file.name == f"alexnet-owt-{own.file.sha256[:8]}.pth"
    meta = AlexNet_Weights.IMAGENET1K_V1.meta
    assert own.parameters == meta["num_params"]
    assert own.size / 2**20 == pytest.approx(meta["_file_size"], abs=1e-3)

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("RESTORE_OFFLINE", raising=False)
    published = tmp_path / "alexnet.pth"
    torch.save(load_file(random_trunk), published)
    data = published.read_bytes()
    other = tmp_path / "other.pth"
    other.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with serving() as server:
        server.files["/alexnet.pth"] = data
        file = replace(
            own.file,
            addresses=(f"{server.address}/alexnet.pth",),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        monkeypatch.setattr(store, "metrics", lambda: {"lpips-alex": replace(own, file=file)})
        refused = command("models", "get", "lpips-alex", "--from", other)
        assert (refused.code, "is not the file that was published" in refused.err) == (3, True)
        done = command("models", "get", "lpips-alex", "--yes")
        assert done.code == 0, done.err

    assert find_lpips_trunk() == tmp_path / "restore" / "models" / "lpips-alex" / file.name
    assert torch.equal(load_lpips()(*pair), load_lpips(random_trunk)(*pair))
    assert command("models", "verify", "lpips-alex").code == 0
    with pytest.raises(CheckpointError, match="measures pictures, and is no model"):
        pretrained.checkpoint_path("lpips-alex")


def test_lpips_trunk_is_the_argument_then_the_variable_then_the_cache(
    no_trunk, monkeypatch, tmp_path
):
    cached = no_trunk / "alexnet-owt-1.pth"
    named = tmp_path / "named.pth"
    given = tmp_path / "given.pth"
    for path in (cached, named, given):
        path.touch()
    assert find_lpips_trunk() == cached
    monkeypatch.setenv(quality.TRUNK_VARIABLE, str(named))
    assert find_lpips_trunk() == named
    assert find_lpips_trunk(given) == given
    named.unlink()
    with pytest.raises(Unavailable, match=r"named\.pth"):  # a wrong name is told, not passed over
        find_lpips_trunk()


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_lpips_refuses_a_file_that_is_no_trunk(tmp_path, suffix, content):
    path = tmp_path / f"trunk{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableInput, match="AlexNet"):
        load_lpips(path)


def test_lpips_agrees_with_convolutions_by_hand(random_trunk, pair):
    expected = lpips_by_hand(load_file(random_trunk), *pair)
    np.testing.assert_allclose(load_lpips(random_trunk)(*pair), expected, rtol=1e-4)


def test_lpips_reads_torchvisions_own_file_and_leaves_the_random_state_alone(
    no_trunk, random_trunk, pair
):
    whole = load_file(random_trunk) | {"classifier.1.weight": torch.zeros(4, 4)}
    torch.save(whole, no_trunk / "alexnet-owt-0.pth")
    state = torch.get_rng_state()
    from_cache = load_lpips()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(from_cache(*pair), load_lpips(random_trunk)(*pair))
    with pytest.raises(BadArgument, match="31 are needed"):
        from_cache(torch.zeros(1, 3, 30, 64), torch.zeros(1, 3, 30, 64))
    assert from_cache(*(torch.zeros(1, 3, 31, 31),) * 2).tolist() == [0]


@pytest.mark.skipif(quality.TRUNK_VARIABLE not in os.environ, reason="needs AlexNet's weights")
def test_lpips_with_the_real_trunk_sees_more_noise_as_farther(pair):
    distance = load_lpips()
    truth = pair[1]
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(3))
    found = torch.stack(
        [distance((truth + s * noise).clamp(0, 1), truth) for s in (0, 0.02, 0.05, 0.1, 0.2)]
    )
    assert (found[0] == 0).all()
    assert (found.diff(dim=0) > 0).all()
    assert 0.3 < found[-1].mean() < 2  # strong noise scores near 1 with the published weights
