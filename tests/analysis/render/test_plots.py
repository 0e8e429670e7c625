import xml.etree.ElementTree as ElementTree

from contralign.analysis.render.plots import training_curves


def event(arm, step, stage="it", **numbers):
    return {"arm": arm, "stage": stage, "step": step, **numbers}


WEIGHED = {
    "nll": 1.9,
    "weight_mean": 1.5,
    "delta_q05": -1,
    "delta_q25": 0,
    "delta_q50": 1,
    "delta_q75": 2,
    "delta_q95": 4,
}


def labels(svg):
    return svg.decode().split("<!-- ")[1:]


def has(svg, words):
    return any(comment.startswith(words) for comment in labels(svg))


def test_one_plot_a_stage_in_the_order_of_training():
    events = [event("shared", 1, "text", loss=3.0), event("mle", 1, loss=2.0), event("mle", 2, loss=1.0)]
    assert [plot.title for plot in training_curves(events)] == ["text", "it"]


def test_panels_about_weights_only_where_they_were_logged():
    plain, weighed = (
        training_curves([event("a", step, loss=2.0, **more) for step in (1, 2)])[0].svg for more in ({}, WEIGHED)
    )
    assert has(plain, "plain loss")
    assert not has(plain, "mean weight")
    assert has(weighed, "mean weight") and has(weighed, "Δ: median")


def test_arms_of_any_name_give_an_svg_that_parses():
    names = ["<script>alert(1)</script>", "$\\frac{1", "--> <b>", "_hidden", "ünï"]
    (plot,) = training_curves([event(name, step, loss=2.0, **WEIGHED) for name in names for step in (1, 2)])
    found = ElementTree.fromstring(plot.svg)
    assert not [element for element in found.iter() if "script" in str(element.tag)]


def test_the_same_events_give_the_same_file():
    events = [event("mle", step, loss=1.0 / step) for step in (1, 2, 3)]
    assert training_curves(events) == training_curves(events)


def test_events_without_a_loss_draw_nothing():
    assert training_curves([]) == []
    assert training_curves([event("mle", 3, train_runtime=5.0)]) == []
