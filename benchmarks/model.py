"""The model that everything online is measured with: 1,000 trees of depth 6 over the 22 features.

That is the size of models people bring. The demo model of ``make up`` stops early, at about a
hundred trees: with it, moving rows costs more than scoring them, and ratios say little of others.
"""

from __future__ import annotations

from benchmarks.say import say
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.training.adapters.registration import run_training
from serve_app.training.service.options import DEFAULT_PARAMS, DEMO_EVENTS, TrainingOptions

PARAMS = {**DEFAULT_PARAMS, "iterations": 1000, "depth": 6, "learning_rate": 0.03, "use_best_model": False}
"""Slow enough learning that a thousand trees do not overfit; none is cut off."""


def train_reference(registry: DirectoryRegistry) -> None:
    """Train the model on generated events and publish it as ``purchase@champion``."""
    say("training a model of 1,000 trees on generated events (about a minute)")
    options = TrainingOptions(params={**PARAMS, "early_stopping_rounds": 1000})
    run_training(GeneratedLog(DEMO_EVENTS, 0), registry, options, report=say)
