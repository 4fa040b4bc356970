"""Online reinforcement learning: an agent acts, and learns from real and from synthetic rows.

``online_exp.py`` is the command and ``config.py`` its settings. Read ``loop.py`` first, which
steps the environment (``episodes.py``), stores the transition, lets the agent learn, and now and
then refills the synthetic buffer and ends an epoch. The agent is ``redq_sac.py``, SAC with an
ensemble of critics, and ``redq_rlpd_agent.py`` draws its batches from real and synthetic rows:
reinforcement learning with prior data (RLPD, Ball et al. 2023, arXiv 2302.02948), where the prior
data are the samples of a diffusion model. ``refill.py`` trains that model and samples from it, and
``prompts.py`` asks it for rows like the most relevant ones, which ``relevance.py`` scores;
``column_statistics.py`` compares its rows with the real ones. A run's state is the run's own:
``run_files.py`` and ``row_log.py`` put it on the disk, and ``run_logs.py`` what a person reads,
with ``epoch_statistics.py`` and ``q_bias.py``. ``play_policy.py`` records episodes of the policy
that a run ended with.
"""
