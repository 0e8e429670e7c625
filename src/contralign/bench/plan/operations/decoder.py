"""Operations of a decoder's passes.

A product of `tokens` rows with a matrix of `weights` entries takes 2 · tokens · weights operations forward and twice as
many backward (gradient of the input, gradient of the weights). Scores and values of attention take 4 · width a
query-key pair.
"""

from dataclasses import dataclass

from contralign.bench.plan.operations.counting import Counting, LastLayer
from contralign.bench.plan.shapes import Decoder, Sample


@dataclass(frozen=True)
class Pass:
    """Operations of one forward pass, apart where the backward pass multiplies them differently."""

    linear: float
    attention: float
    last_products: float

    def forward(self) -> float:
        """Operations of the pass itself."""
        return self.linear + self.attention

    def recomputed(self, counting: Counting) -> float:
        """Operations that checkpointing repeats before the backward pass."""
        skipped = self.last_products if counting.recompute == "early_stop" else 0.0
        return 0.0 if counting.recompute == "none" else self.forward() - skipped

    def backward(self, counting: Counting, trained: bool = True) -> float:
        """Operations of the backward pass; frozen weights need the gradients of their inputs alone."""
        return (2 if trained else 1) * self.linear + counting.attention_backward * self.attention


def decoder_pass(
    decoder: Decoder, tokens: float, pairs: float, labels: float, last_pairs: float, last_layer: LastLayer
) -> Pass:
    """One run over a sequence.

    Args:
        decoder: its sizes.
        tokens: rows of every product.
        pairs: query-key pairs of a layer.
        labels: rows whose output anybody reads.
        last_pairs: query-key pairs whose query is such a row.
        last_layer: what the last layer leaves out; see `Counting`.
    """
    outputs = tokens if last_layer == "all" else labels
    queries = labels if last_layer == "query" else tokens
    rest = decoder.layer_weights - decoder.kv_weights - decoder.query_weights
    last = decoder.kv_weights * tokens + decoder.query_weights * queries + rest * outputs
    all_pairs = (decoder.layers - 1) * pairs + (last_pairs if last_layer == "query" else pairs)
    return Pass(
        linear=2 * ((decoder.layers - 1) * decoder.layer_weights * tokens + last),
        attention=4 * decoder.attention_width * all_pairs,
        last_products=2 * decoder.down_weights * ((decoder.layers - 1) * tokens + outputs),
    )


def main_pass(decoder: Decoder, sample: Sample, counting: Counting, narrow: bool) -> Pass:
    """The pass with the picture; `narrow` lets the last layer leave out what the loss does not read."""
    pairs, last_pairs = _pairs(sample.all, sample.labels, counting)
    last_layer = counting.last_layer if narrow else "all"
    return decoder_pass(decoder, sample.all, pairs, sample.labels, last_pairs, last_layer)


def dropped_pass(decoder: Decoder, sample: Sample, counting: Counting) -> Pass:
    """The pass over the text alone; a shared prefix is paid once a micro-batch, so in parts by every sample."""
    saved = sample.prefix * (1 - 1 / counting.rows) if counting.share_prefix else 0.0
    pairs, last_pairs = _pairs(sample.text, sample.labels, counting)
    pairs -= saved * (sample.prefix + 1) / 2 if counting.attention == "causal" else 0.0
    return decoder_pass(decoder, sample.text - saved, pairs, sample.labels, last_pairs, counting.last_layer)


def masked_pass(decoder: Decoder, sample: Sample, counting: Counting) -> Pass:
    """The released pass: every product over all tokens, attention over what its kernel does not skip."""
    length = sample.text if counting.hidden_keys == "skipped" else sample.all
    pairs, last_pairs = _pairs(length, sample.labels, counting)
    return decoder_pass(decoder, sample.all, pairs, sample.labels, last_pairs, "all")


def _pairs(length: float, labels: float, counting: Counting) -> tuple[float, float]:
    """Query-key pairs of a sequence, and those whose query is one of its last `labels` rows."""
    if counting.attention == "none":
        return 0.0, 0.0
    if counting.attention == "full":
        return length**2, labels * length
    return length * (length + 1) / 2, labels * (2 * length - labels + 1) / 2
