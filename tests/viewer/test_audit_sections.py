"""What a page of audits says of many templates, and of a circuit that misses its own target."""

import copy

from circuits_jax.circuits.audit.controls.kinds import RANDOM, TRAINED
from circuits_jax.circuits.audit.records import AuditReport
from circuits_jax.runs.audit_tables import audit_table
from circuits_jax.viewer.audit_page import build_audit_page
from circuits_jax.viewer.control_plots import distributions
from tests.viewer.page import parse
from tests.viewer.test_audit_page import REPORT, TASK


def page_of(report):
    return parse(build_audit_page("t", [], {TASK: report}))


def test_many_templates_are_folded_and_all_there():
    many = copy.deepcopy(REPORT)
    many["templates"] = [
        {**REPORT["templates"][0], "template": number, "prompt": f"= <{number}>"} for number in range(60)
    ]
    (folded,) = [each for each in page_of(many).all("details") if "60 templates" in each.words()]
    assert all(f"= <{number}>" in folded.words() for number in range(60))
    assert not any("templates" in each.words() for each in page_of(REPORT).all("details"))


def test_a_circuit_that_misses_its_own_target_says_so():
    missed = copy.deepcopy(REPORT)
    missed["circuit"]["missed"] = 0.776
    words = page_of(missed).words()
    assert "by the circuit itself misses the target (0.776); beside its controls it counts as all" in words
    assert audit_table({TASK: missed}, {})[0]["target"] == "missed"
    assert "(misses its target: beside controls it counts as all edges)" in repr(AuditReport(TASK, missed))
    assert "this circuit: 39<" in distributions(missed)  # a report of before
    missed["circuit"]["counted_edges"] = 12288
    assert "this circuit: all 12,288<" in distributions(missed)
    missed["circuit"]["missed"] = None
    for report in (missed, REPORT):  # of before it was said
        assert "itself misses" not in page_of(report).words()
        assert "misses its target" not in repr(AuditReport(TASK, report))
        assert "target" not in audit_table({TASK: report}, {})[0]


def test_random_weights_of_before_are_said_to_be_small():
    anew = copy.deepcopy(REPORT)
    for row in anew["controls"]["rows"]:
        if row["kind"] == RANDOM:
            row["scale"] = TRAINED
    small = "random weights of this audit are as small as at initialisation"
    assert small in page_of(REPORT).words() and small not in page_of(anew).words()
