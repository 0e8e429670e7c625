"""Stage 0: what the parts of a tiny LLaVA learn before they meet, as those of a real one do.

The language model learns on text alone: one that cannot go on without a picture gives no-image logits, and so a Δ, that
mean nothing. The vision tower learns from captions, as CLIP did, and may then stay frozen, as LLaVA's does: where it
learned together with the language model, the names of 200 signs were still unknown after 600 steps; with a tower that
knew them and stayed frozen they were learned in 200.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import LlavaForConditionalGeneration, LlavaProcessor, get_cosine_schedule_with_warmup


def pretrain_text(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    chats: Sequence[Sequence[Mapping[str, str]]],
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    warmup: float = 0.05,
    seed: int = 0,
    progress: bool = True,
) -> list[float]:
    """Train the language model alone, on text alone, in the chat format; every token counts.

    Embeddings, layers, norm and head are trained; tower and projector stay.

    Args:
        model: trained in place.
        processor: its tokenizer and chat template are used.
        chats: Hugging Face messages with strings as contents and no picture; repeated as often as the steps want.
        steps: optimizer steps (AdamW, cosine schedule, gradients clipped to 1).
        batch_size: chats a step.
        learning_rate: the highest.
        warmup: share of the steps over which the rate rises.
        seed: of the order of the chats.
        progress: show a bar.

    Returns:
        The loss of every step: nats per token.

    Raises:
        ValueError: no chat, or an image token in one.
    """
    rows = [_encode_text(processor, chat) for chat in chats]
    if not rows:
        raise ValueError("chats is empty: text pre-training needs at least one")
    batches = _endless_batches(len(rows), batch_size, seed)

    def losses() -> Iterator[Tensor]:
        for chosen in batches:
            ids, mask = _pad([rows[index] for index in chosen], processor.tokenizer.pad_token_id)
            yield model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss

    trained = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
    return _train(model, trained, losses(), steps, learning_rate, warmup, "text alone" if progress else None)


def pretrain_tower(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    warmup: float = 0.05,
    seed: int = 0,
    progress: bool = True,
) -> list[float]:
    """Train the vision tower alone, to tell which tokens the caption of a picture has.

    Every patch votes for tokens through a linear layer that is thrown away afterwards; the votes of a picture are added
    up by log-sum-exp, so that one patch is enough to name what it shows. Tokens weigh -ln of the share of captions they
    are in: what every caption says is not worth seeing.

    Args:
        model: trained in place; only the tower changes.
        processor: its tokenizer and image processor are used.
        pictures: of the size that the image processor makes of them.
        captions: one for every picture.
        steps: optimizer steps (AdamW, cosine schedule, gradients clipped to 1).
        batch_size: pictures a step.
        learning_rate: the highest.
        warmup: share of the steps over which the rate rises.
        seed: of the linear layer and of the order of the pictures.
        progress: show a bar.

    Returns:
        The loss of every step: cross-entropy against the weighted tokens of the captions, in nats.

    Raises:
        ValueError: no picture, or other numbers of pictures and captions.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"{len(pictures)} pictures and {len(captions)} captions: wanted at least one, and as many")
    tokens = [
        torch.tensor(sorted(set(ids)))
        for ids in processor.tokenizer([f" {caption}" for caption in captions], add_special_tokens=False)["input_ids"]
    ]
    weights = _rarity(tokens, len(processor.tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(model.model.vision_tower.config.hidden_size, len(processor.tokenizer))
    batches = _endless_batches(len(pictures), batch_size, seed)

    def losses() -> Iterator[Tensor]:
        for chosen in batches:
            pixels = processor.image_processor([pictures[index] for index in chosen], return_tensors="pt").pixel_values
            states = model.model.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states
            votes = layer(states[model.config.vision_feature_layer][:, 1:]).logsumexp(dim=1)
            wanted = torch.stack(
                [torch.zeros_like(weights).index_put((tokens[i],), weights[tokens[i]]) for i in chosen]
            )
            wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1e-6)
            yield -(wanted * votes.log_softmax(dim=-1)).sum(dim=1).mean()

    trained = [*model.model.vision_tower.parameters(), *layer.parameters()]
    return _train(model, trained, losses(), steps, learning_rate, warmup, "pictures alone" if progress else None)


def _train(
    model: LlavaForConditionalGeneration,
    trained: Sequence[nn.Parameter],
    losses: Iterator[Tensor],
    steps: int,
    learning_rate: float,
    warmup: float,
    title: str | None,
) -> list[float]:
    """Take `steps` losses from the endless `losses`, a step on each; `title` names the progress bar, None hides it."""
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(warmup * steps), steps)
    was_training = model.training
    model.train()
    seen = []
    for _ in (bar := tqdm(range(steps), desc=title, disable=title is None)):
        loss = next(losses)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seen.append(loss.item())
        bar.set_postfix(loss=f"{seen[-1]:.3f}")
    model.train(was_training)
    return seen


def _encode_text(processor: LlavaProcessor, chat: Sequence[Mapping[str, str]]) -> Tensor:
    text = processor.tokenizer.apply_chat_template(
        [dict(message) for message in chat], chat_template=processor.chat_template, tokenize=False
    )
    ids = processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    if (ids == processor.image_token_id).any():
        raise ValueError(f"{text[:80]!r} holds {processor.image_token}: text alone was wanted, take the marker out")
    return ids


def _endless_batches(rows: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Row numbers, shuffled anew in every round over the rows."""
    generator = torch.Generator().manual_seed(seed)
    waiting: list[int] = []
    while True:
        while len(waiting) < batch_size:
            waiting.extend(torch.randperm(rows, generator=generator).tolist())
        yield waiting[:batch_size]
        del waiting[:batch_size]


def _pad(rows: list[Tensor], pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids and mask, both (batch, seq)."""
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    return ids, nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)


def _rarity(tokens: Sequence[Tensor], vocab_size: int) -> Tensor:
    """(vocab,) -ln of the share of captions that have a token; 0 for tokens that none has."""
    share = torch.bincount(torch.cat(list(tokens)), minlength=vocab_size) / len(tokens)
    return torch.where(share > 0, -share.clamp(min=1e-9).log(), torch.zeros_like(share))
