<# Settings of a training as lora-scripts keeps them for Windows.
   if ($nothing) { this is a comment }
#>
$pretrained_model = "./models/base.safetensors" # the checkpoint | 底模
$model_type = "sd1.5"
$parameterization = 0

$train_data_dir = "./my photos/grandma"
$reg_data_dir = ""

$network_module = "lycoris.kohya"
$network_weights = ""
$network_dim = 8
$network_alpha = 4

$resolution = "512,768"
$batch_size = 2
$max_train_epoches = 6
$train_unet_only = 0
$stop_text_encoder_training = 40
$min_snr_gamma = 0.5
$keep_tokens = 1
$lr = "1e-4"
$unet_lr = "2e-4"
$text_encoder_lr = "1e-5"
$optimizer_type = "DAdaptation"
$output_name = 'grandma''s'
$save_state = 1
$clip_skip = 2
$lowram = 0
$algo = "lora"
$conv_dim = 4
$conv_alpha = 2
$dropout = "0"

# ----- below, nothing is to be changed
.\venv\Scripts\activate
$Env:HF_HOME = "huggingface"
$ext_args = [System.Collections.ArrayList]::new()
$launch_args = @()
$trainer_file = "./scripts/stable/train_network.py"

if ($model_type -eq "sd1.5") {
  [void]$ext_args.Add("--clip_skip=$clip_skip")
}
elseif ($model_type -eq "sd2.0") {
  [void]$ext_args.Add("--v2")
}
else {
  $trainer_file = "./scripts/stable/sdxl_train_network.py"
}
if ($lowram) { [void]$ext_args.Add("--lowram") }
if ($train_unet_only) {
  [void]$ext_args.Add("--network_train_unet_only")
}
if ($reg_data_dir) {
  [void]$ext_args.Add("--reg_data_dir=" + $reg_data_dir)
}
if ($optimizer_type) { $ext_args.Add("--optimizer_type=" + $optimizer_type) | Out-Null }
if ($optimizer_type -eq "DAdaptation") {
  [void]$ext_args.Add("--optimizer_args")
  [void]$ext_args.Add("decouple=True")
}
if ($network_module -eq "lycoris.kohya") {
  [void]$ext_args.Add("--network_args")
  [void]$ext_args.Add("conv_dim=$conv_dim")
  [void]$ext_args.Add("conv_alpha=$conv_alpha")
  [void]$ext_args.Add("algo=$algo")
  [void]$ext_args.Add("dropout=$dropout")
}
if ($save_state -eq 1 -and -not $resume) { [void]$ext_args.Add("--save_state") }
if ($min_snr_gamma -ne 0) { $ext_args += "--min_snr_gamma=$min_snr_gamma" }
if ($stop_text_encoder_training -ne 0) {
  [void]$ext_args.Add("--stop_text_encoder_training=$stop_text_encoder_training")
}

python -m accelerate.commands.launch $launch_args --num_cpu_threads_per_process=4 $trainer_file `
  --enable_bucket `
  --pretrained_model_name_or_path=$pretrained_model `
  --train_data_dir=$train_data_dir `
  --output_dir="./output" `
  --resolution=$resolution `
  --network_module=$network_module `
  --max_train_epochs=$max_train_epoches `
  --learning_rate=$lr --unet_lr=$unet_lr --text_encoder_lr=$text_encoder_lr `
  --lr_scheduler=cosine --lr_warmup_steps=0 `
  --network_dim=$network_dim --network_alpha=$network_alpha `
  --output_name=$output_name `
  --train_batch_size=$batch_size `
  --mixed_precision="fp16" --save_precision="fp16" `
  --seed="1337" --cache_latents --max_token_length=225 `
  --caption_extension=".txt" --keep_tokens=$keep_tokens `
  --xformers --shuffle_caption $ext_args
Write-Output "Train finished"
Read-Host | Out-Null ;
