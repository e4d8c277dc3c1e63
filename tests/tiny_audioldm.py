"""Random AudioLDM, AudioLDM 2 and Stable Audio pipelines of some 100,000 weights, as `save_pretrained` writes them."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest

from tiny_audiocraft import tiny_t5_tokenizer

RATE_HZ = 4000
STABLE_RATE_HZ = 4000
STABLE_LONGEST_S = 1.0


def write_tiny_audioldm(folder: Path, *, seed: int = 0) -> Path:
    torch, diffusers, transformers = _libraries()
    torch.manual_seed(seed)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=16, in_channels=4,
        out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=(8, 16),
        class_embed_type="simple_projection", projection_class_embeddings_input_dim=12, class_embeddings_concat=True,
    )  # fmt: skip
    tokenizer = _clap_tokenizer(transformers)
    text = _clap_text(tokenizer)
    pipeline = diffusers.AudioLDMPipeline(
        vae=_vae(diffusers),
        text_encoder=_wide(
            torch,
            transformers.ClapTextModelWithProjection(transformers.ClapTextConfig(**text, projection_dim=12)),
        ),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_ddim(diffusers),
        vocoder=_vocoder(torch, transformers),
    )
    pipeline.save_pretrained(folder)
    return folder


def write_tiny_audioldm2(folder: Path, *, seed: int = 0) -> Path:
    import diffusers

    diffusers.AudioLDM2Pipeline(**audioldm2_parts(seed)).save_pretrained(folder)
    return folder


def audioldm2_parts(seed: int = 0) -> dict[str, Any]:
    """With a GPT2Model for a language model, as published checkpoints name it."""
    torch, diffusers, transformers = _libraries()
    torch.manual_seed(seed)
    unet = diffusers.AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=16, in_channels=4,
        out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=(8, 16),
    )  # fmt: skip
    tokenizer, tokenizer_2 = _clap_tokenizer(transformers), tiny_t5_tokenizer(transformers)
    clap = transformers.ClapModel(
        transformers.ClapConfig(
            text_config=_clap_text(tokenizer),
            audio_config={
                "window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4],
                "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2,
                "patch_embeds_hidden_size": 16, "num_classes": 4, "enable_fusion": False,
            },
            projection_dim=12,
        )
    )  # fmt: skip
    with torch.no_grad():
        norm = clap.audio_model.audio_encoder.batch_norm  # of log-mel bins in dB
        norm.running_mean.fill_(-20.0)
        norm.running_var.fill_(100.0)
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=len(tokenizer_2),
            d_model=16,
            d_kv=4,
            d_ff=8,
            num_layers=1,
            num_heads=2,
            dropout_rate=0.0,
        )
    )
    gpt2 = transformers.GPT2Model(
        transformers.GPT2Config(
            n_embd=16, n_head=2, n_layer=1, vocab_size=8, n_positions=64, bos_token_id=0, eos_token_id=0,
            max_new_tokens=4,
        )
    )  # fmt: skip
    return {
        "vae": _vae(diffusers),
        "text_encoder": _wide(torch, clap),
        "text_encoder_2": t5,
        "projection_model": diffusers.AudioLDM2ProjectionModel(
            text_encoder_dim=12, text_encoder_1_dim=16, langauge_model_dim=16
        ),
        "language_model": _wide(torch, gpt2),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer_2,
        "feature_extractor": transformers.ClapFeatureExtractor(
            feature_size=16, max_length_s=1, truncation="rand_trunc"
        ),
        "unet": unet,
        "scheduler": _ddim(diffusers),
        "vocoder": _vocoder(torch, transformers),
    }


def write_tiny_stable_audio(folder: Path, *, seed: int = 0) -> Path:
    import diffusers

    diffusers.StableAudioPipeline(**stable_audio_parts(seed)).save_pretrained(folder)
    return folder


def stable_audio_parts(seed: int = 0) -> dict[str, Any]:
    torch, diffusers, transformers = _libraries()
    pytest.importorskip("torchsde")
    torch.manual_seed(seed)
    tokenizer = tiny_t5_tokenizer(transformers)
    return {
        "vae": diffusers.AutoencoderOobleck(
            encoder_hidden_size=6, downsampling_ratios=[4, 5], decoder_channels=3, decoder_input_channels=3,
            audio_channels=2, channel_multiples=[2, 4], sampling_rate=STABLE_RATE_HZ,
        ),
        "text_encoder": transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2, dropout_rate=0.0
            )
        ),
        "projection_model": diffusers.StableAudioProjectionModel(
            text_encoder_dim=16, conditioning_dim=4, min_value=0, max_value=32
        ),
        "tokenizer": tokenizer,
        "transformer": diffusers.StableAudioDiTModel(
            sample_size=round(STABLE_LONGEST_S * STABLE_RATE_HZ / 20), in_channels=3, num_layers=1,
            attention_head_dim=4, num_attention_heads=2, num_key_value_attention_heads=2, out_channels=3,
            cross_attention_dim=4, time_proj_dim=8, global_states_input_dim=8, cross_attention_input_dim=4,
        ),
        "scheduler": diffusers.CosineDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
        ),
    }  # fmt: skip


def _libraries() -> tuple[Any, Any, Any]:
    return tuple(pytest.importorskip(name) for name in ("torch", "diffusers", "transformers"))  # type: ignore[return-value]


def _ddim(diffusers: Any) -> Any:
    return diffusers.DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
    )


def _vae(diffusers: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=[8, 16], in_channels=1, out_channels=1, norm_num_groups=4, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip


def _vocoder(torch: Any, transformers: Any) -> Any:
    """Mel frames every 16 samples, loud enough to be heard."""
    vocoder = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(
            model_in_dim=8, sampling_rate=RATE_HZ, upsample_initial_channel=8, upsample_rates=[4, 4],
            upsample_kernel_sizes=[8, 8], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    )  # fmt: skip
    return _wide(torch, vocoder)


def _wide(torch: Any, model: Any) -> Any:
    """Weights as wide as needed for inputs to be told apart, which those of a fresh model are not."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.5 / weight[0].numel() ** 0.5)
    return model.eval()


def _clap_text(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 40, "pad_token_id": 1,
    }  # fmt: skip


def _clap_tokenizer(transformers: Any) -> Any:
    """RoBERTa's, of single letters."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {piece: number for number, piece in enumerate([*special, "Ġ", *string.ascii_lowercase])}
    return transformers.RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=32)
