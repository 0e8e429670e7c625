"""One training sample, counted part by part."""

from contralign.bench.plan.operations.counting import Counting, Mode, check_mode
from contralign.bench.plan.operations.decoder import dropped_pass, main_pass, masked_pass
from contralign.bench.plan.operations.logits import contrast_head_work, head_work
from contralign.bench.plan.operations.vision import vision_backward, vision_forward
from contralign.bench.plan.operations.work import SampleCost, Work
from contralign.bench.plan.shapes import VLModel


def count(model: VLModel, mode: Mode, counting: Counting | None = None) -> SampleCost:
    """Operations and bytes of one sample with a picture, in one mode.

    Raises:
        ValueError: unknown mode.
    """
    counting = counting or Counting()
    mode = check_mode(mode)
    narrow = mode not in ("mle", "released")
    main = main_pass(model.decoder, model.sample, counting, narrow)
    return SampleCost(
        vision_forward=vision_forward(model),
        vision_backward=vision_backward(model, counting),
        decoder_forward=Work(main.forward()),
        decoder_recompute=Work(main.recomputed(counting)),
        decoder_backward=Work(main.backward(counting, model.train_decoder)),
        head=head_work(model.decoder, model.sample, mode, counting, model.train_decoder),
        contrast_decoder=_second_pass(model, mode, counting),
        contrast_head=contrast_head_work(model.decoder, model.sample, mode, counting),
    )


def flop_ratio(model: VLModel, mode: Mode, counting: Counting | None = None, over: Mode = "mle") -> float:
    """Operations of one mode over those of another, matrix products alone."""
    return count(model, mode, counting).total.flops / count(model, over, counting).total.flops


def _second_pass(model: VLModel, mode: Mode, counting: Counting) -> Work:
    if mode == "cal":
        return Work(dropped_pass(model.decoder, model.sample, counting).forward())
    if mode == "released":
        return Work(masked_pass(model.decoder, model.sample, counting).forward())
    return Work()
