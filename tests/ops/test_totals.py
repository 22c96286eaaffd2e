import math

import pytest
import torch

from regcli.ops.totals import mean, total


@pytest.mark.parametrize("shape", [(3,), (40, 50, 60)])
def test_a_sum_is_exact_and_the_same_on_any_number_of_threads(shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.3
    threads = torch.get_num_threads()
    found = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        found.append(float(total(values)))
    torch.set_num_threads(threads)
    assert len(set(found)) == 1
    assert found[0] == pytest.approx(math.fsum(values.flatten().tolist()), rel=1e-12)
    assert float(mean(values)) == pytest.approx(found[0] / values.numel())


def test_sums_can_be_differentiated():
    values = torch.rand(4, 5, requires_grad=True)
    total(values).backward()
    assert torch.equal(values.grad, torch.ones(4, 5))
