"""The table of times projects rates, keeps what it has, and is of one machine."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import job_parts  # noqa: E402
import job_times  # noqa: E402


def test_a_rate_is_of_the_time_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four units a call of two seconds, after a first call of a hundred."""
    now, calls = [0.0], []

    def work() -> float:
        now[0] += 2.0 if calls else 100.0
        calls.append(now[0])
        return 4.0

    monkeypatch.setattr(job_parts.time, "perf_counter", lambda: now[0])
    part = job_parts.Part(work, units=1000, unit="rows")
    assert part.rate(20.0) == 2.0
    assert len(calls) == 11


def test_a_whole_part_is_done_once() -> None:
    calls = []

    def work() -> float:
        calls.append(None)
        return 1.0

    job_parts.Part(work, units=1, unit="demos", whole=True).rate(60.0)
    assert len(calls) == 1


def test_avx2_is_what_make_test_elsewhere_sets() -> None:
    assert job_times.avx2() == {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }


def test_the_time_of_a_job_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 000 steps at 50 a second and 4 refills at one a minute."""

    class Known(job_parts.Part):
        def rate(self, seconds: float) -> float:
            return {"steps": 50.0, "refills": 1 / 60}[self.unit]

    parts = [Known(lambda: 1, 10_000, "steps"), Known(lambda: 1, 4, "refills")]
    monkeypatch.setitem(job_times.JOBS, "demo", job_parts.Job("a run", lambda: parts))
    found = job_times.measured("demo", 1.0)
    assert found["seconds"] == pytest.approx(440.0)
    assert found["memory_mb"] > 10
    results = {"machine": job_times.here(), "jobs": {"demo, as it is": found}}
    assert "| a run | 7 minutes (50 steps/s) |  | " in job_times.table(results)


def test_what_is_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def in_process(name: str, machine: str, seconds: float) -> dict:
        done.append((name, machine))
        part = {"unit": "updates", "rate": 100.0, "units": 1_000_000}
        return {"seconds": 1e4, "memory_mb": 500.0, "parts": [part]}

    monkeypatch.setattr(job_times, "in_process", in_process)
    asked = ["--only", "td3_bc", "iql", "--output", str(tmp_path / "times.json")]
    job_times.main([*asked, "--instructions", "AVX2"])
    job_times.main(asked)
    assert done == [(name, "AVX2") for name in ("td3_bc", "iql")] + [
        (name, "as it is") for name in ("td3_bc", "iql")
    ]
    assert "2.8 hours (100 updates/s)" in (tmp_path / "times.md").read_text()


def test_results_of_another_machine_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"machine": {"processor": "another"}, "jobs": {}}))
    with pytest.raises(SystemExit, match="of another machine"):
        job_times.read(path)


def test_results_know_their_machine_by_the_name_that_they_always_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instructions are an entry of their own there."""
    core = tmp_path / "cpuinfo"
    core.write_text("model name\t: Some Processor\nflags\t\t: avx512f amx_bf16\n")
    monkeypatch.setattr("studies.CPUINFO", core)
    machine = job_times.here()
    assert machine["processor"] == "Some Processor"
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"machine": machine, "jobs": {}}))
    assert job_times.read(path)["machine"] == machine


@pytest.mark.parametrize(("sampler", "calls"), [("paper", 255), ("fast", 24)])
def test_a_row_is_all_of_its_network_calls(
    sampler: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job_parts.construct_diffusion_model
    bindings = ["ResidualMLPDenoiser.mlp_width = 8", "ResidualMLPDenoiser.num_layers = 1"]

    def small(**options: object) -> object:
        job_parts.gin_config.parse((), bindings, clear=False)
        return made(**options)

    monkeypatch.setattr(job_parts, "construct_diffusion_model", small)
    (part,) = job_parts.samples(sampler)
    assert part.work() * calls == pytest.approx(100_000)
    assert part.units == 5_000_000
