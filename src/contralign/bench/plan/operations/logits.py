"""Head and loss: operations, memory traffic and peak memory of the logits, the one part CAL makes smaller.

Bytes a logit, in bf16 training. Plain Hugging Face writes bf16 logits (2 bytes) as part of the product, then: copy to
float32 (reads 2, writes 4), log-softmax (4, 4); backward: gradient of the pick (writes 4), of the log-softmax
(reads 8, writes 4), copy to bf16 (4, 2). In all 36. In chunks: copy to float32 (6), log-sum-exp (8), gradient in place
(8), copy to bf16 (6): 28, but for label rows alone. The released second pass copies to float32 once (6).

Peak bytes a logit: plain, in the backward pass: bf16 logits, log-softmax, and two gradients: 2 + 4 + 4 + 4. Released:
the second pass's float32 logits and their shifted copy stay alive besides: 8 more. In chunks: one chunk's bf16 and
two float32 arrays: 10.
"""

from contralign.bench.plan.operations.counting import Counting, Mode
from contralign.bench.plan.operations.work import Work
from contralign.bench.plan.shapes import Decoder, Sample

PLAIN_TRAFFIC, CHUNK_TRAFFIC, SECOND_TRAFFIC = 36, 28, 6
PLAIN_PEAK, SECOND_PEAK, CHUNK_PEAK = 14, 8, 10
CHUNK_ROWS = 1024


def head_work(decoder: Decoder, sample: Sample, mode: Mode, counting: Counting, trained: bool = True) -> Work:
    """Head and loss of the pass with the picture, forward and backward; a frozen head has no gradient of weights."""
    if mode in ("mle", "released"):
        products = 3 if trained else 2
        return Work(products * 2 * decoder.head_weights * sample.all, PLAIN_TRAFFIC * decoder.vocab * sample.all)
    products = counting.head_products - (not trained)
    flops = products * 2 * decoder.head_weights * sample.labels
    return Work(flops, CHUNK_TRAFFIC * decoder.vocab * sample.labels)


def contrast_head_work(decoder: Decoder, sample: Sample, mode: Mode, counting: Counting) -> Work:
    """Head of the pass without the picture: all logits, those of the labels, or one dot product a label."""
    if mode == "released":
        return Work(2 * decoder.head_weights * sample.all, SECOND_TRAFFIC * decoder.vocab * sample.all)
    if mode != "cal":
        return Work()
    if counting.score == "logprob":
        return Work(2 * decoder.head_weights * sample.labels, CHUNK_TRAFFIC / 2 * decoder.vocab * sample.labels)
    return Work(2 * 2 * decoder.hidden * sample.labels, 2 * 2 * decoder.hidden * sample.labels)


def loss_memory(decoder: Decoder, sample: Sample, mode: Mode, rows: int) -> float:
    """Peak bytes of the logits of a micro-batch of `rows` samples."""
    if mode in ("mle", "released"):
        peak = PLAIN_PEAK + (SECOND_PEAK if mode == "released" else 0)
        return peak * decoder.vocab * sample.all * rows
    return CHUNK_PEAK * decoder.vocab * min(sample.labels * rows, CHUNK_ROWS)
