"""The models of the paper, and some around it, as numbers.

Sizes are those of the public configuration files; token counts, trained parts, batches and epochs are those of the
training specification (sections 2.4, 3 and 4). What no source gives is an assumption, marked so here and in
docs/plan.md:

- Text: 256 tokens a sample with a picture, 128 of them labels (assumption). mix665k is mostly multi-turn question
  answering: the share of each part times rough lengths (a VQA turn of 17 tokens and 3 labels, 5 to 13 turns a picture;
  captions and conversations of 200 to 400) comes to about 250, and a third to a half of them are answers.
- Prefix: `v1` puts 35 tokens before the picture, ChatML with a short system prompt 14, Gemma's template 4.
- LLaVA-NeXT: 5 tiles and 2,340 image tokens, those of a 640 x 480 picture (COCO's size, the most common one).
- LLaVA-NeXT's epoch: mix665k, DocVQA, ChartQA and ShareGPT4V at their public sizes (the authors released no list).
"""

from contralign.bench.plan.lookup import by_name
from contralign.bench.plan.shapes import AuxTower, Decoder, Sample, VLModel

VICUNA_7B = Decoder(hidden=4096, layers=32, heads=32, kv_heads=32, intermediate=11008, vocab=32000)
VICUNA_13B = Decoder(hidden=5120, layers=40, heads=40, kv_heads=40, intermediate=13824, vocab=32000)
LLAMA3_8B = Decoder(hidden=4096, layers=32, heads=32, kv_heads=8, intermediate=14336, vocab=128256)
YI_34B = Decoder(hidden=7168, layers=60, heads=56, kv_heads=8, intermediate=20480, vocab=64000)
QWEN15_72B = Decoder(hidden=8192, layers=80, heads=64, kv_heads=64, intermediate=24576, vocab=152064)
GEMMA_2B = Decoder(
    hidden=2048, layers=18, heads=8, kv_heads=1, head_dim=256, intermediate=16384, vocab=256000, tied=True
)

TEXT, LABELS = 256, 128
V1_PREFIX, CHATML_PREFIX, GEMMA_PREFIX = 35, 14, 4
NEXT_SAMPLES = 665_298 + 39_463 + 28_299 + 102_000
MGM_SAMPLES = 1_500_000


def _llava15(name: str, decoder: Decoder) -> VLModel:
    sample = Sample(image=576, text=TEXT, labels=LABELS, prefix=V1_PREFIX)
    return VLModel(name=name, decoder=decoder, sample=sample)


def _llava_next(name: str, decoder: Decoder, prefix: int) -> VLModel:
    sample = Sample(image=2340, text=TEXT, labels=LABELS, prefix=prefix)
    return VLModel(name=name, decoder=decoder, sample=sample, tiles=5, train_tower=True, samples=NEXT_SAMPLES)


def _mgm(name: str, decoder: Decoder, prefix: int = V1_PREFIX, hd: bool = False) -> VLModel:
    return VLModel(
        name=name,
        decoder=decoder,
        sample=Sample(image=2880 if hd else 576, text=TEXT, labels=LABELS, prefix=prefix),
        tiles=5 if hd else 1,
        aux=AuxTower(side=1536 if hd else 768),
        samples=MGM_SAMPLES,
        sharding="zero2",
    )


MODELS = {
    model.name: model
    for model in (
        _llava15("llava15-7b", VICUNA_7B),
        _llava15("llava15-13b", VICUNA_13B),
        _llava_next("llava-next-7b", VICUNA_7B, V1_PREFIX),
        _llava_next("llava-next-13b", VICUNA_13B, V1_PREFIX),
        _llava_next("llava-next-8b", LLAMA3_8B, V1_PREFIX),
        _llava_next("llava-next-34b", YI_34B, CHATML_PREFIX),
        _llava_next("llava-next-72b", QWEN15_72B, CHATML_PREFIX),
        _mgm("mgm-2b", GEMMA_2B, GEMMA_PREFIX),
        _mgm("mgm-7b", VICUNA_7B),
        _mgm("mgm-13b", VICUNA_13B),
        _mgm("mgm-hd-7b", VICUNA_7B, hd=True),
        _mgm("mgm-hd-13b", VICUNA_13B, hd=True),
    )
}


def find_model(name: str) -> VLModel:
    """The model called `name`.

    Raises:
        ValueError: no such model; names those that are.
    """
    return by_name(MODELS, name, "model")
