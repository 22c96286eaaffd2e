import pytest
import torch
from torch import nn

from regcli.train.muon import Muon, orthogonalized

DRAW = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(24, 800), (800, 24), (16, 16)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape):
    U, _, Vt = torch.linalg.svd(torch.randn(shape, generator=DRAW), full_matrices=False)
    uneven = U @ torch.diag(torch.logspace(0, -2, len(Vt))) @ Vt
    found = orthogonalized(uneven)
    turned = U.T @ found @ Vt.T
    assert 0.6 < float(turned.diagonal().min()) <= float(turned.diagonal().max()) < 1.3
    assert float((turned - torch.diag(turned.diagonal())).abs().max()) < 0.01


def test_nothing_is_made_of_no_gradient():
    assert not bool(orthogonalized(torch.zeros(4, 30)).any())


def test_the_small_products_give_what_the_iteration_itself_gives():
    X = torch.randn(12, 300, generator=DRAW, dtype=torch.float64)
    wanted = X / X.norm()
    for _ in range(5):
        A = wanted @ wanted.T
        wanted = 3.4445 * wanted + (-4.7750 * A + 2.0315 * A @ A) @ wanted
    torch.testing.assert_close(orthogonalized(X), wanted, atol=1e-6, rtol=1e-6)


def test_what_is_no_matrix_takes_steps_of_adamw():
    layer = nn.Linear(1, 5)  # a single input: nothing to turn
    same = nn.Linear(1, 5)
    same.load_state_dict(layer.state_dict())
    one = Muon(layer, rate=0.1, decay=0.01)
    other = torch.optim.AdamW(same.parameters(), lr=0.01, betas=(0.9, 0.98), weight_decay=0.01)
    for _ in range(5):
        for p, q in zip(layer.parameters(), same.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=DRAW)
            q.grad = p.grad.clone()
        one.step()
        other.step()
    for p, q in zip(layer.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-5)
