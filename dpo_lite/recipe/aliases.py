"""What keys of TRL, PEFT, LLaMA-Factory, axolotl and ms-swift are called in a recipe.

Names from their configuration classes and example files (TRL 1.16 ``DPOConfig`` and
``ModelConfig``, PEFT 0.21 ``LoraConfig``, LLaMA-Factory's ``hparams``, axolotl's schema,
ms-swift's arguments). Letters that look alike would lead elsewhere: ``lora_r`` is nearer to
``ppo.reward`` than to ``adapter.r``.
"""

from __future__ import annotations

ALIASES: dict[str, str] = {
    name: key
    for key, names in {
        "task": "stage rlhf_type trainer_type train_type",
        "reference": "ref_model ref_model_name_or_path ref_adapters ref_adapter_name_or_path",
        "run.name": "run_name experiment_name wandb_name wandb_run_id",
        "run.folder": "output_dir logging_dir",
        "model.base": "base_model model model_name model_name_or_path model_id model_id_or_path "
        "pretrained_model_name_or_path base_model_config tokenizer_name_or_path",
        "model.revision": "model_revision revision_of_model",
        "model.adapter": "adapter_name_or_path adapter_path adapters lora_model_dir "
        "sft_model_path peft_model_id resume_from_adapter",
        "model.quantization": "load_in_4bit load_in_8bit quantization_bit quant_bits quant_method "
        "bnb_4bit_quant_type use_bnb_nested_quant use_4bit double_quantization",
        "model.trust_remote_code": "trust_remote_code",
        "adapter.r": "lora_r lora_rank rank",
        "adapter.alpha": "lora_alpha",
        "adapter.targets": "lora_target lora_target_modules target_modules lora_target_linear",
        "adapter.kind": "use_dora peft_use_dora",
        "run.report_to": "log_with use_wandb use_wandb_logging use_tensorboard use_mlflow",
        "adapter.rslora": "use_rslora peft_use_rslora",
        "adapter.init": "init_lora_weights pissa_init peft_init_lora_weights init_weights",
        "adapter.lora_plus": "loraplus_lr_ratio lorap_lr_ratio",
        "data.train": "dataset datasets dataset_name dataset_path train_dataset train_file "
        "dataset_mixture data_path data_files",
        "data.eval": "eval_dataset test_datasets val_dataset val_set_size val_size "
        "dataset_test_split split_dataset_ratio validation_file do_eval",
        "data.columns": "column_mapping field_messages field_chosen field_rejected",
        "data.format": "dataset_format ds_type",
        "data.template": "chat_template chat_template_kwargs enable_thinking",
        "data.max_length": "max_length max_seq_length max_seq_len sequence_len cutoff_len "
        "max_prompt_length max_completion_length model_max_length",
        "data.on_long": "truncation_mode truncation_strategy excess_length_strategy",
        "data.limit": "max_samples max_train_samples",
        "train.loss": "loss_type pref_loss dpo_loss rl rl_loss",
        "train.beta": "pref_beta rl_beta dpo_beta kl_coef init_kl_coef",
        "train.label_smoothing": "dpo_label_smoothing pref_label_smoothing label_smoothing_factor",
        "train.sft_weight": "rpo_alpha cpo_alpha pref_ftx sft_alpha sft_loss_weight",
        "train.simpo_gamma": "gamma gamma_beta_ratio",
        "train.dpop_lambda": "dpop_alpha",
        "train.centering": "center_rewards_coefficient",
        "train.desirable_weight": "kto_chosen_weight",
        "train.undesirable_weight": "kto_rejected_weight",
        "train.lr": "learning_rate",
        "train.scheduler": "lr_scheduler_type lr_scheduler",
        "train.warmup": "warmup_ratio warmup_steps",
        "train.batch_size": "per_device_train_batch_size gradient_accumulation_steps "
        "micro_batch_size global_batch_size train_batch_size",
        "train.epochs": "num_train_epochs num_epochs n_epochs",
        "train.max_steps": "max_train_steps total_steps",
        "train.save_steps": "save_strategy saves_per_epoch",
        "train.eval_steps": "eval_strategy evaluation_strategy evals_per_epoch",
        "train.keep": "load_best_model_at_end load_best_model save_best_model",
        "train.keep_by": "metric_for_best_model greater_is_better",
        "train.patience": "early_stopping_patience early_stop_patience early_stopping_steps "
        "early_stop_interval early_stopping",
        "train.kl_budget": "max_kl kl_threshold early_stop_kl",
        "train.seed": "data_seed random_seed",
        "train.optimizer": "optim optimiser",
        "train.max_grad_norm": "gradient_clipping max_gradient_norm clip_grad_norm",
        "train.token_budget": "auto_find_batch_size pad_to_multiple_of padding_free",
        "train.checkpointing": "gradient_checkpointing gradient_checkpointing_kwargs "
        "use_gradient_checkpointing disable_gradient_checkpointing",
        "train.reference_cache": "precompute_ref_log_probs precompute_ref_batch_size",
        "ppo.reward": "reward_model reward_model_path reward_model_type reward_funcs"
        " reward_weights",
        "ppo.answers": "num_generations num_return_sequences rloo_k",
        "ppo.max_new_tokens": "response_length max_response_length",
        "ppo.passes": "num_ppo_epochs ppo_epochs num_iterations",
        "ppo.clip": "cliprange epsilon clip_range epsilon_low",
        "ppo.clip_high": "epsilon_high clip_ratio_high",
        "ppo.ratio": "importance_sampling_level",
        "ppo.value_clip": "cliprange_value",
        "eval.max_new_tokens": "max_new_tokens",
        "eval.limit": "max_eval_samples max_dataset_eval_samples",
        "hub.repo": "hub_model_id hub_repo_id",
        "hub.private": "hub_private_repo",
        "hub.push": "push_to_hub hub_strategy",
    }.items()
    for name in names.split()
}

NOT_HAD: dict[str, str] = {
    name: why
    for why, names in {
        "there is no dropout, for policy and reference must be one network at step 0": (
            "lora_dropout dropout attention_dropout disable_dropout"
        ),
        "the dtype follows from the card, and the adapter is in fp32": (
            "bf16 fp16 tf32 torch_dtype dtype pure_bf16 bnb_4bit_compute_dtype"
        ),
        "the fastest attention that is right is found by itself": (
            "attn_implementation attn_impl flash_attn flash_attention flash_attn_2 "
            "use_flash_attention_2 sdpa_attention xformers_attention eager_attention"
        ),
        "rows are always packed and prompts shared": (
            "packing sample_packing eval_sample_packing padding_side group_by_length"
        ),
        "a tracker's project is set by its own variable, such as WANDB_PROJECT": (
            "wandb_project project"
        ),
        "every update is logged": "logging_steps logging_first_step",
        "metrics are written into the run's folder": ("logging_strategy plot_loss log_level"),
        "each process trains the whole model on its card (docs/several-cards.md)": (
            "deepspeed fsdp fsdp_config ddp_timeout tensor_parallel_size"
        ),
        "the adapter is always LoRA": (
            "finetuning_type use_peft tuner_type peft_type adapter_type use_lora"
        ),
    }.items()
    for name in names.split()
}


def alias_of(key: str) -> str | None:
    """What to say of a key by the name that others give it; None where nobody does."""
    name = key.rsplit(".", 1)[-1].lower().replace("-", "_")
    if name in ALIASES:
        return f"it is called {ALIASES[name]} here"
    if name in NOT_HAD:
        return f"leave it away: {NOT_HAD[name]}"
    return None
