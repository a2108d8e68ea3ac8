"""Every member of the registry: size, shapes, padding, gradient, export."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ensemble.members import MEMBERS, make_member  # noqa: E402  torch may be missing


@pytest.fixture(params=MEMBERS)
def member(request):
    """A member in evaluation mode whose batch norms and biases are not at their telling start values."""
    torch.manual_seed(3)
    model = make_member(request.param, 64, 6)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point() and value.ndim == 1:
            value.data.add_(torch.rand_like(value) * (0.3 if "var" in name else 0.2))
    return model.eval()


def test_is_under_a_million_and_a_half_parameters(member):
    assert sum(p.numel() for p in member.parameters()) < 1_500_000


def test_padding_changes_nothing(member):
    for n_frames, n_padding in ((37, 1), (200, 57), (61, 3), (150, 250)):
        mel = torch.randn(2, n_frames, 64)
        longer = torch.cat([mel, torch.zeros(2, n_padding, 64)], 1)
        mask = torch.cat([torch.ones(2, n_frames), torch.zeros(2, n_padding)], 1)
        with torch.no_grad():
            alone, padded = member(mel, torch.ones(2, n_frames)), member(longer, mask)
        assert (alone - padded).abs().max() < 1e-4


def test_the_order_and_content_of_frames_matter(member):
    mel = torch.randn(1, 120, 64)
    mask = torch.ones(1, 120)
    with torch.no_grad():
        answer = member(mel, mask)
        assert answer.shape == (1, 6)
        assert (answer - member(mel * 0.5, mask)).abs().max() > 1e-4
        assert (answer - member(mel.flip(1), mask)).abs().max() > 1e-5


def test_a_few_frames_are_enough(member):
    with torch.no_grad():
        assert torch.isfinite(member(torch.randn(1, 4, 64), torch.ones(1, 4))).all()


def test_learns(member):
    member.train()
    mel, mask = torch.randn(12, 60, 64), torch.ones(12, 60)
    mel[::2, :, :20] += 2.0
    truth = torch.arange(12) % 2
    optimizer = torch.optim.AdamW(member.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(member(mel, mask), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in member.parameters())


def test_an_unknown_member_is_named():
    with pytest.raises(KeyError, match="rnn"):
        make_member("rnn", 64, 6)


def test_members_differ():
    sizes = {sum(p.numel() for p in make_member(name, 64, 6).parameters()) for name in MEMBERS}
    assert len(sizes) == len(MEMBERS) >= 3
    assert np.all(np.array(sorted(sizes)) > 10_000)
