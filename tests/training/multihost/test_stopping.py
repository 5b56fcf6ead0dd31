"""Asked to stop, a run saves where it is, leaves quietly, and goes on as if nothing had been."""

import os
import shutil
import signal

import pytest

from circuits_jax.storage.errors import Stopped
from tests.training.tiny import assert_equal, make_trainer, replace, rows, saved_steps


def stopping(trainer, at, number=signal.SIGTERM):
    """Makes `trainer` receive a signal while it takes step `at`."""
    step = trainer.step

    def stopped(state, batch, frozen):
        if int(state.step) + 1 == at:
            os.kill(os.getpid(), number)
        return step(state, batch, frozen)

    trainer.step = stopped
    return trainer


def test_sigterm_saves_the_step_under_way(whole, fresh):
    config, corpus, workdir = fresh
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="after step 7, which is saved"):
        stopping(make_trainer(config, corpus, workdir), 7).run()
    assert signal.getsignal(signal.SIGTERM) == before
    assert saved_steps(workdir) == [4, 7]
    assert_equal(make_trainer(config, corpus, workdir).run(), whole[2])
    assert rows(workdir) == rows(whole[0])


@pytest.fixture
def hung_up():
    """The terminal's end is noticed even where the tests were started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_signal_before_the_first_step_is_done_leaves_nothing_to_save(whole, fresh, hung_up):
    config, corpus, workdir = fresh
    with pytest.raises(Stopped, match=r"asked to stop \(SIGHUP\); what was finished is kept"):
        stopping(make_trainer(config, corpus, workdir), 1, signal.SIGHUP).run()
    assert saved_steps(workdir) == []
    assert_equal(make_trainer(config, corpus, workdir).run(), whole[2])


@pytest.mark.slow
def test_sigterm_in_the_last_step_is_no_interruption(whole, fresh):
    config, corpus, workdir = fresh
    assert_equal(stopping(make_trainer(config, corpus, workdir), 12).run(), whole[2])


@pytest.mark.slow
def test_a_trace_of_the_steps_asked_for_is_written(fresh, monkeypatch):
    config, corpus, workdir = fresh
    config = replace(replace(config, "profile", steps=(3, 4)), "train", steps=6)
    make_trainer(config, corpus, workdir).run()
    (trace,) = (workdir / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000


@pytest.mark.slow
def test_the_batches_of_a_step_do_not_depend_on_who_reads_them(whole, fresh):
    """A thread, or worker processes; and from the middle on."""
    config, corpus, workdir = fresh
    shutil.copytree(whole[0] / "checkpoints" / "8", workdir / "checkpoints" / "8")
    state = make_trainer(replace(config, "mesh", workers=2), corpus, workdir).run()
    assert_equal(state, whole[2])
