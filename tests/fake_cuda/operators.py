"""What there is to know of an operator before it runs: what it writes, and how a GPU runs it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch

MIXES_DEVICES = frozenset(
    {
        *("copy_", "_to_copy", "_foreach_copy_", "lift_fresh", "set_", "detach"),
        *("index", "index_put", "index_put_", "_index_put_impl_"),
    }
)
"""Operators that take tensors of the host beside those of a device."""

COPIES = frozenset({"_to_copy", "copy_", "_foreach_copy_"})

WAITS = frozenset(
    {
        *("_local_scalar_dense", "item", "is_nonzero", "equal"),
        *("nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "repeat_interleave"),
    }
)
"""Operators for which the host waits: their result, or its size, is a number that it needs."""

INDEXES = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})

NOT_DETERMINISTIC = frozenset(
    {
        *("cumsum", "histc", "bincount", "kthvalue", "put_", "median", "nanmedian"),
        *("scatter_reduce", "grid_sampler_2d_backward", "max_pool3d_with_indices_backward"),
        *("upsample_bilinear2d_backward", "replication_pad2d_backward", "_ctc_loss"),
        *("reflection_pad2d_backward", "nll_loss2d_forward", "adaptive_avg_pool2d_backward"),
    }
)
"""Kernels that CUDA has in no deterministic form (ATen's alertNotDeterministic, torch 2.13)."""

PRODUCTS = frozenset({"mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv"})
CONVOLUTIONS = frozenset({"convolution", "convolution_backward"})
"""Products of float32 numbers may be TF32's on a GPU, by a switch each for these two kinds."""

DRAWS = frozenset(
    {
        *("randn", "rand", "randint", "randperm", "normal", "bernoulli", "multinomial"),
        *("normal_", "uniform_", "bernoulli_", "random_", "exponential_"),
        *("rand_like", "randn_like", "randint_like"),
    }
)

_WITH_GENERATOR = {
    "default": "generator",
    "low": "low_generator",
    "out": "generator_out",
    "low_out": "low_generator_out",
}
"""Overload -> the one that takes a generator."""


class Operator(NamedTuple):
    """Attributes:
    name: without namespace and overload.
    is_view: its result shares memory with an argument.
    writes: it changes an argument.
    makes: it makes a new tensor and leaves its contents open.
    returned: names of the arguments that it returns, in order, where it writes.
    arguments: all names, in order.
    """

    name: str
    is_view: bool
    writes: bool
    makes: bool
    returned: tuple[str, ...]
    arguments: tuple[str, ...]


@functools.cache
def describe(func: Any) -> Operator:
    """The operator that an overload belongs to."""
    schema = func._schema
    name = schema.name.split("::")[1]
    written = [each for each in schema.arguments if each.alias_info and each.alias_info.is_write]
    shared = [each.alias_info for each in schema.returns if each.alias_info]
    is_view = any(not each.is_write for each in shared)
    returned = tuple(
        argument.name
        for result in shared
        for argument in written
        if result.before_set == argument.alias_info.before_set
    )
    arguments = tuple(each.name for each in schema.arguments)
    makes = name.startswith(("empty", "new_empty"))
    return Operator(name, is_view, bool(written), makes, returned, arguments)


def with_generator(func: Any) -> Any:
    """The overload that takes a generator."""
    if "generator" in describe(func).arguments:
        return func
    packet = getattr(torch.ops.aten, describe(func).name)
    return getattr(packet, _WITH_GENERATOR.get(func._overloadname, func._overloadname))
