"""The loop, on an environment that counts: what is stored, when what happens, what is logged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch

from synther.files import checkpoint
from synther.learning.replay import Batch
from synther.online.loop import OnlineRun
from synther.online.run_logs import columns_of
from synther.runs.loggers import read_metrics
from tests.online.helpers import TINY_RUN, bind_tiny_diffusion, logs, tiny_run


@pytest.fixture(autouse=True)
def _tiny_diffusion() -> Iterator[None]:
    bind_tiny_diffusion()
    yield
    gin.clear_config()


def stored(run: OnlineRun) -> dict[str, np.ndarray]:
    transitions, timeouts = run.transitions()
    columns = transitions.arrays()
    return {**columns, "timeouts": timeouts}


def ends(rows: dict[str, np.ndarray]) -> np.ndarray:
    return rows["timeouts"] | (rows["terminals"] > 0)


def test_only_true_ends_are_stored_as_done() -> None:
    run = tiny_run(None)
    run.train()
    rows = stored(run)
    episode, count = rows["observations"][:, 0], rows["observations"][:, 1]
    assert len(count) == 60
    true_end = (episode % 2 == 1) & (count == 3)
    limit = (episode % 2 == 0) & (count == 5)
    assert true_end.sum() >= 5
    assert limit.sum() >= 5
    np.testing.assert_array_equal(rows["terminals"], true_end)
    np.testing.assert_array_equal(rows["timeouts"], limit)
    # The next observation is the real one, of the same episode, also at its end.
    np.testing.assert_array_equal(rows["next_observations"][:, 0], episode)
    np.testing.assert_array_equal(rows["next_observations"][:, 1], count + 1)
    np.testing.assert_array_equal(rows["next_observations"][:, 2:], rows["actions"])
    np.testing.assert_array_equal(rows["rewards"], 10 * episode + count + 1)
    begins = np.append(True, (true_end | limit)[:-1])
    np.testing.assert_array_equal(count == 0, begins)


def test_max_ep_len_shorter_than_the_environment_s_limit_ends_episodes_too() -> None:
    run = tiny_run(None, max_ep_len=3, epochs=1)
    run.train()
    rows = stored(run)
    np.testing.assert_array_equal(rows["observations"][:, 1], np.arange(20) % 3)
    assert not rows["terminals"].any()
    np.testing.assert_array_equal(rows["timeouts"], np.arange(20) % 3 == 2)
    np.testing.assert_array_equal(rows["next_observations"][:, 1], np.arange(20) % 3 + 1)


def test_ends_are_stored_whatever_the_environment_observes(tmp_path: Path) -> None:
    seen, still = (
        tiny_run(folder, env) for folder, env in ((None, "Counter-v0"), (tmp_path, "Still-v0"))
    )
    for run in (seen, still):
        run.train()
    expected, found = stored(seen), stored(still)
    np.testing.assert_array_equal(found["timeouts"], expected["timeouts"])
    np.testing.assert_array_equal(found["terminals"], expected["terminals"])
    again = tiny_run(tmp_path, "Still-v0", resume=True)
    np.testing.assert_array_equal(stored(again)["timeouts"], expected["timeouts"])
    assert again.transitions()[0].timeouts is not None


def test_a_checkpoint_of_an_earlier_version_still_tells_most_ends(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    run.train()
    path = tmp_path / "checkpoint-60.pt"
    saved = checkpoint.load(path)
    del saved["cut_off"]
    checkpoint.save(path, saved)
    again = tiny_run(tmp_path, resume=True)
    np.testing.assert_array_equal(stored(again)["timeouts"], stored(run)["timeouts"])


def test_epochs_are_logged_with_returns_and_lengths(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, evaluate_bias=True, n_mc_eval=10)
    run.train()
    records, table = logs(tmp_path)["metrics"], logs(tmp_path)["progress"]
    assert [record["step"] for record in records] == [20, 40, 60]
    episodes = [[], [], []]  # of each epoch: return and length of the episodes that ended in it
    rows, total, length = stored(run), 0.0, 0
    for step, (reward, end) in enumerate(zip(rows["rewards"], ends(rows), strict=True)):
        total, length = total + reward, length + 1
        if end:
            episodes[step // 20].append((total, length))
            total, length = 0.0, 0
    for epoch, (record, line) in enumerate(zip(records, table, strict=True)):
        returns, lengths = np.array(episodes[epoch]).T
        assert record["AverageEpRet"] == pytest.approx(returns.mean())
        assert record["StdEpRet"] == pytest.approx(returns.std())
        assert record["EpLen"] == pytest.approx(lengths.mean())
        # Each of the two evaluation environments plays one episode an epoch: even ones last 6.
        assert record["TestEpLen"] == (4 if epoch % 2 else 6)
        assert record["AverageTestEpRet"] == sum(
            10 * epoch + count for count in range(1, 5 if epoch % 2 else 7)
        )
        assert (record["Epoch"], record["TotalEnvInteracts"]) == (epoch + 1, 20 * (epoch + 1))
        assert {key: str(record[key]) for key in line} == line
    header = (tmp_path / "progress.txt").read_text().split("\n")[0]
    assert header.split("\t") == columns_of(run.config)
    assert {"AverageQBias", "StdNormQBias", "AverageQ1Vals", "LossPi", "Alpha"} <= set(table[0])


def test_statistics_of_updates_are_of_all_updates_of_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = [[], [], []]
    run = tiny_run(tmp_path)
    update = run.agent.train_block

    def spied() -> dict[str, torch.Tensor]:
        metrics = update()
        if metrics:
            seen[(run.step - 1) // 20].append(metrics["Q1Vals"].item())
        return metrics

    monkeypatch.setattr(run.agent, "train_block", spied)
    run.train()
    assert [len(each) for each in seen] == [10, 20, 20]  # from the first row beyond start_steps on
    for record, values in zip(logs(tmp_path)["metrics"], seen, strict=True):
        assert record["AverageQ1Vals"] == pytest.approx(np.mean(values))
        assert record["StdQ1Vals"] == pytest.approx(np.std(values), abs=1e-6)
        assert record["MaxQ1Vals"] == max(values)


def test_an_epoch_without_an_update_or_an_end_has_nan(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, epochs=1, steps_per_epoch=3, start_steps=10)
    run.train()
    (line,) = logs(tmp_path)["progress"]
    assert line["AverageEpRet"] == line["LossPi"] == "nan"
    assert float(line["AverageTestEpRet"]) == 21


# ---- SynthER ----
SYNTHER: dict[str, Any] = {"disable_diffusion": False, "model_terminals": True}


def test_a_refill_leaves_the_live_observation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 2023 release overwrote it with a synthetic one (SPEC section 11, fault 3)."""
    run = tiny_run(None, **SYNTHER, retrain_diffusion_every=15)
    live: dict[int, np.ndarray] = {}
    refill = run._refill

    def watched() -> None:
        episodes = run.episodes
        before, env_state = episodes.observation.copy(), episodes.env.unwrapped._observation()
        refill()
        np.testing.assert_array_equal(episodes.observation, before)
        np.testing.assert_array_equal(episodes.env.unwrapped._observation(), env_state)
        live[run.step] = before

    monkeypatch.setattr(run, "_refill", watched)
    run.train()
    assert list(live) == [15, 30, 45]  # no update would follow one at the last step
    rows = stored(run)
    for step, observation in live.items():
        np.testing.assert_array_equal(rows["observations"][step], observation)
    assert not ends(rows)[14]  # a refill in the middle of an episode, which goes on
    np.testing.assert_array_equal(rows["observations"][15], rows["next_observations"][14])


def test_refills_come_when_they_are_due_and_replace_all_synthetic_rows(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, **SYNTHER, diffusion_start=25, epochs=4)
    held: dict[int, torch.Tensor] = {}
    refill, update = run._refill, run.agent.train_block

    def watched() -> None:
        refill()
        held[run.step] = run.agent.synthetic.valid_rows().clone()

    def checked() -> dict[str, torch.Tensor]:
        assert len(run.agent.synthetic) == (0 if run.step <= 40 else 30)
        return update()

    run._refill = watched  # type: ignore[method-assign]
    run.agent.train_block = checked  # type: ignore[method-assign]
    run.train()
    assert list(held) == [40, 60]
    assert [len(each) for each in held.values()] == [30, 30]
    assert not held[40].equal(held[60])
    records = logs(tmp_path)["refills"]
    assert [record["step"] for record in records] == [40, 60]
    assert [record["real_rows"] for record in records] == [40, 60]
    assert [record["synthetic_rows"] for record in records] == [30, 30]
    assert [path.name for path in (tmp_path / "diffusion").iterdir()] == ["round-1"]


@pytest.mark.parametrize("modelled", [True, False])
def test_synthetic_terminals_are_0_or_1(modelled: bool) -> None:
    """In the 2023 release ``done`` leaked into targets as a fraction."""
    settings = {"num_samples": 400, "diffusion_buffer_size": 400, "epochs": 2}
    run = tiny_run(None, **{**SYNTHER, "model_terminals": modelled, **settings})
    run.train()
    terminals = run.agent.synthetic.valid_rows()[:, -1]
    assert set(terminals.tolist()) == ({0.0, 1.0} if modelled else {0.0})
    actions = run.agent.synthetic.gather(torch.arange(400)[None]).actions
    assert actions.abs().max() <= 1


def test_the_replay_past_its_wrap_around() -> None:
    """``replay_size`` is less than the run: the last rows are held, and handed out in order."""
    run = tiny_run(None, replay_size=35)
    drawn: set[float] = set()
    draw = run.agent.draw

    def watched() -> Batch:
        batch = draw()
        kept = run.agent.replay.valid_rows()[:, :2]
        for episode, count in batch.states[..., :2].reshape(-1, 2):
            assert ((kept[:, 0] == episode) & (kept[:, 1] == count)).any()
        drawn.update(batch.states[..., 0].flatten().tolist())
        return batch

    run.agent.draw = watched  # type: ignore[method-assign]
    run.train()
    rows = stored(run)
    assert len(rows["rewards"]) == 35
    order = 10 * rows["observations"][:, 0] + rows["observations"][:, 1]
    assert (np.diff(order) > 0).all()  # oldest first
    episode = rows["observations"][:, 0]
    np.testing.assert_array_equal(episode[1:] != episode[:-1], ends(rows)[:-1])
    true_end = (episode % 2 == 1) & (rows["observations"][:, 1] == 3)
    np.testing.assert_array_equal(rows["terminals"], true_end)
    assert max(drawn) == episode.max()


def test_streams_begin_anew_each_epoch_where_asked() -> None:
    """So that what an epoch draws depends on the seed and its number alone."""
    draws = {}
    for reseed in (True, False):
        for extra in (0, 5):
            run = tiny_run(None, reseed_each_epoch=reseed)
            for _ in range(extra):
                run.agent.draw_noise()
            run.epochs = 1
            run._begin_epoch()
            draws[reseed, extra] = run.agent.draw_noise().actions
    assert draws[True, 0].equal(draws[True, 5])
    assert not draws[False, 0].equal(draws[False, 5])
    assert not draws[True, 0].equal(draws[False, 0])


def test_a_run_is_the_same_again_and_another_seed_differs(tmp_path: Path) -> None:
    runs = [tiny_run(None, **SYNTHER, seed=seed) for seed in (0, 0, 1)]
    for run in runs:
        run.train()
    first, again, other = (run.agent.state_dict() for run in runs)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not first["actor.layers.0.weight"].equal(other["actor.layers.0.weight"])
    assert not list(tmp_path.iterdir())
    assert TINY_RUN["epochs"] * 20 == runs[0].step


def test_evaluation_in_workers_finds_the_same(tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        run = tiny_run(folder, eval_workers=workers, n_evals_per_epoch=3)
        run.train()
        records = read_metrics(folder / "metrics.jsonl")
        names = ("step", "AverageTestEpRet", "StdTestEpRet", "MinTestEpRet", "TestEpLen")
        found.append([[each[name] for name in names] for each in records])
    assert len(found[0]) == TINY_RUN["epochs"]
    assert found[0] == found[1]
