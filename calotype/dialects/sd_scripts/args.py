"""Options of sd-scripts and of lora-scripts' form that are named differently here, ignored or unsupported."""

from calotype.errors import Message

_words = str.split  # splits tables of names
ALIASES = {
    "pretrained_model_name_or_path": "model",
    "train_data_dir": "photos",
    "reg_data_dir": "regular",
    "lr_restart_cycles": "lr_scheduler_num_cycles",
    "caption_extention": "caption_extension",
    "lycoris_algo": "algo",
    "lokr_factor": "factor",
    "dropout": "network_dropout",
    "network_args_custom": "network_args",
    "optimizer_args_custom": "optimizer_args",
    "prompt_file": "sample_prompts",
    "debiased_estimation": "debiased_estimation_loss",
}

# Defaults of sd-scripts that differ from Calotype's.
DEFAULTS = {
    "enable_bucket": False,
    "caption_extension": ".caption",
    "max_token_length": 75,
    "resolution": "512",
    "network_dim": 4,
    "network_alpha": 1.0,
    "learning_rate": 2e-6,
    "lr_scheduler": "constant",
    "save_precision": "float",
}
OF_DATASETS = ("enable_bucket", "caption_extension", "resolution")  # those of them that a dataset config may give
STEPS = 1600  # if neither steps nor epochs are given

# Ignored without a note: they do not change the result, or have no effect.
IGNORED = frozenset(
    _words("""
    xformers sdpa mem_eff_attn cache_latents lowram highvram vae_batch_size no_half_vae skip_cache_check cache_info
    persistent_data_loader_workers max_data_loader_n_workers cache_text_encoder_outputs text_encoder_batch_size
    cache_text_encoder_outputs_to_disk torch_compile dynamo_backend disable_mmap_load_safetensors tokenizer_cache_dir
    ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph deepspeed fp8_base fp8_base_unet cpu_offload_checkpointing
    fused_backward_pass use_safetensors output_config config_file console_log_level console_log_file console_log_simple
    save_state save_state_on_train_end save_last_n_epochs_state save_last_n_steps_state
    log_tracker_name log_tracker_config wandb_run_name log_config
    enable_block_weights enable_base_weight enable_preview gpu_ids model_type num_cpu_threads_per_process
    """)
)

# Ignored with a note: what is done instead, as templates.
NOTES = {
    "wandb_api_key": Message("nothing is sent to wandb"),
    "huggingface_repo_id": Message("nothing is sent to Hugging Face"),
    "huggingface_token": Message("nothing is sent to Hugging Face"),
    "huggingface_repo_type": Message("nothing is sent to Hugging Face"),
    "huggingface_path_in_repo": Message("nothing is sent to Hugging Face"),
    "huggingface_repo_visibility": Message("nothing is sent to Hugging Face"),
    "save_state_to_huggingface": Message("nothing is sent to Hugging Face"),
    "resume_from_huggingface": Message("nothing is fetched from Hugging Face"),
    "async_upload": Message("nothing is sent to Hugging Face"),
    "multi_gpu": Message("several GPUs are used by the launcher"),
    "dataset_class": Message("the photos' folder defines the dataset"),
    "resize_interpolation": Message("photos are downscaled by area and upscaled by Lanczos interpolation"),
    "validate_every_n_steps": Message("validation runs after epochs"),
    "max_validation_steps": Message("validation uses all held-out photos"),
    **dict.fromkeys(
        [f"metadata_{name}" for name in ("thumbnail", "merged_from", "preprocessor", "is_negative_embedding")],
        Message("only title, author, description, licence, tags, hint and trigger are written to the metadata"),
    ),
    "debug_dataset": Message("{option:dry_run} prints the plan of the run"),
}

# Unsupported, and they would change the result: an error.
UNSUPPORTED = frozenset(
    _words("""
    base_weights base_weights_multiplier face_crop_aug_range token_warmup_min token_warmup_step weighted_captions
    down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold block_dims block_alphas conv_block_dims
    conv_block_alphas lr_scheduler_type optimizer_schedulefree_wrapper schedulefree_wrapper_args perlin_noise
    train_norm blocks_to_swap dylora_unit initial_epoch initial_step skip_until_initial_step
    """)
)

NEUTRAL = {"token_warmup_min": 1, "token_warmup_step": 0, "network_multiplier": 1}  # values of these without effect

# Names of the form, and old names of sd-scripts, that set several options (config._expand_form).
EXPANDED = ("use_8bit_adam", "use_lion_optimizer", "prodigy_d0", "prodigy_d_coef", "model_train_type")

# Those of all these that are switches on the command line.
SWITCHES = frozenset(
    _words("""
    highvram no_half_vae skip_cache_check cache_info cache_text_encoder_outputs cache_text_encoder_outputs_to_disk
    torch_compile disable_mmap_load_safetensors ddp_gradient_as_bucket_view ddp_static_graph deepspeed fp8_base
    fp8_base_unet cpu_offload_checkpointing fused_backward_pass use_safetensors output_config console_log_simple
    save_state_on_train_end log_config enable_block_weights enable_base_weight enable_preview
    save_state_to_huggingface resume_from_huggingface async_upload multi_gpu debug_dataset
    weighted_captions optimizer_schedulefree_wrapper perlin_noise train_norm skip_until_initial_step use_8bit_adam
    use_lion_optimizer debiased_estimation
    """)
)

KINDS = ("sd-lora", "sdxl-lora")  # values of model_train_type in lora-scripts' form
