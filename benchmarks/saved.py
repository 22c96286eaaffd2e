"""Saved: how many bytes autograd keeps for a backward pass, at most, at any time."""

import weakref

import torch


class Saved:
    """Counts storages that are kept, each once, while it is entered.

    Attributes:
        now: Bytes.
        most: Bytes.
    """

    def __init__(self, *known):
        self.now = self.most = 0
        self._holders = {}
        self._known = {t.untyped_storage().data_ptr() for t in known}

    def __enter__(self):
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        self._hooks.__exit__(*error)

    def _pack(self, tensor):
        held = _Held(tensor)
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in self._known:
            return held
        if self._holders.get(place, 0) == 0:
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
        self._holders[place] = self._holders.get(place, 0) + 1
        weakref.finalize(held, self._free, place, storage.nbytes())
        return held

    def _free(self, place, size):
        self._holders[place] -= 1
        if self._holders[place] == 0:
            self.now -= size


class _Held:
    def __init__(self, tensor):
        self.tensor = tensor
