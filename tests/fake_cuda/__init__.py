"""An emulated CUDA device for machines that have none: tensors say ``cuda``, their numbers are on
the CPU.

It runs the device paths of the code on a torch without CUDA and is strict where a GPU is:

- Operations refuse tensors of two devices, and generators of another device.
- Each wait of the host is listed, and refused under ``torch.cuda.set_sync_debug_mode("error")``.
- A copy to pinned memory that nobody waited for has not arrived yet.
- CUDA graphs record what runs on the captured stream: work in place happens at the replays alone,
  and new tensors hold NaN until the first one. A wait, a copy from the host or a generator that
  the graph does not know raises an error inside a capture.
- There are two devices, each thread has a current one, and the current streams are the device's.

It cannot see races between streams, what ``torch.compile`` does on CUDA (dynamo refuses dispatch
modes), how a capture's memory pool is used again, and the rounding of cuBLAS.

Read ``guard.cpp`` and ``guard.py`` first (what makes torch accept the device's name), then
``host_api.py`` (``torch.cuda`` in Python), ``tensors.py`` (what an operation does) and
``device.py`` (how it is switched on). ``plugin.py`` brings it to pytest, ``__main__.py`` to a
script:

    python -m pytest -p tests.fake_cuda.plugin -m "gpu and not compiles"
    python -m tests.fake_cuda benchmarks/gpu_check.py --quick

``test_on_emulated_device.py`` starts the first of these, so that the normal suite runs it.
"""
