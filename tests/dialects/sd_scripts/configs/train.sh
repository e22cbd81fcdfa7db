#!/bin/bash
# Settings of a training as lora-scripts keeps them: variables above, what reads them below.

pretrained_model="./models/base.safetensors" # the checkpoint | 底模
model_type="sd1.5"                           # sd1.5 sd2.0 sdxl
parameterization=0

train_data_dir="./my photos/grandma" # folder of N_name folders | 训练集
reg_data_dir=""

network_module="networks.lora"
network_weights=""
network_dim=8
network_alpha=4

resolution="512,768"
batch_size=2
max_train_epoches=6
save_every_n_epochs=2

train_unet_only=0
train_text_encoder_only=0
stop_text_encoder_training=40

noise_offset="0"
keep_tokens=1
min_snr_gamma=0.5 # a whole number is all that the shell itself takes here

lr="1e-4"
unet_lr="2e-4"
text_encoder_lr="1e-5"
lr_scheduler='cosine'
lr_warmup_steps=0
lr_restart_cycles=1

optimizer_type="AdamW"

output_name="grandma"
save_model_as="safetensors"
save_state=1
resume=""

clip_skip=2
lowram=0
multi_gpu=0

algo="lora"
conv_dim=4
conv_alpha=2
dropout="0"

use_wandb=0
wandb_api_key="never to be shown"

# ----- below, nothing is to be changed
export HF_HOME="huggingface"
source ./venv/bin/activate
extArgs=()
launchArgs=()
trainer_file="./scripts/stable/train_network.py"

if [ $model_type == "sd1.5" ]; then
  ext_args+=("--clip_skip=$clip_skip") # into another array than the command takes
elif [ $model_type == "sd2.0" ]; then
  ext_args+=("--v2")
elif [ $model_type == "sdxl" ]; then
  trainer_file="./scripts/stable/sdxl_train_network.py"
fi
if [[ $multi_gpu == 1 ]]; then
  launchArgs+=("--multi_gpu")
fi
if [[ $lowram ]]; then extArgs+=("--lowram"); fi
if [[ $parameterization == 1 ]]; then extArgs+=("--v_parameterization"); fi
if [[ $train_unet_only == 1 ]]; then extArgs+=("--network_train_unet_only"); fi
if [[ $network_weights ]]; then extArgs+=("--network_weights $network_weights"); fi
if [[ $reg_data_dir ]]; then extArgs+=("--reg_data_dir $reg_data_dir"); fi
if [[ $optimizer_type ]]; then extArgs+=("--optimizer_type $optimizer_type"); fi
if [[ $optimizer_type == "DAdaptation" ]]; then extArgs+=("--optimizer_args decouple=True"); fi
if [[ $save_state == 1 ]]; then extArgs+=("--save_state"); fi
if [[ $resume ]]; then extArgs+=("--resume $resume"); fi
if [[ $network_module == "lycoris.kohya" ]]; then
  extArgs+=("--network_args conv_dim=$conv_dim conv_alpha=$conv_alpha algo=$algo dropout=$dropout")
fi
if [[ $stop_text_encoder_training -ne 0 ]]; then extArgs+=("--stop_text_encoder_training $stop_text_encoder_training"); fi
if [[ $noise_offset != "0" ]]; then extArgs+=("--noise_offset $noise_offset"); fi
if [[ $min_snr_gamma -ne 0 ]]; then extArgs+=("--min_snr_gamma $min_snr_gamma"); fi
if [[ $use_wandb == 1 && $wandb_api_key ]]; then
  extArgs+=("--wandb_api_key $wandb_api_key")
fi
[[ $keep_tokens -gt 0 ]] && extArgs+=("--flip_aug")

python -m accelerate.commands.launch ${launchArgs[@]} --num_cpu_threads_per_process=4 $trainer_file \
  --enable_bucket \
  --pretrained_model_name_or_path=$pretrained_model \
  --train_data_dir=$train_data_dir \
  --output_dir="./output" \
  --resolution=$resolution \
  --network_module=$network_module \
  --max_train_epochs=$max_train_epoches \
  --learning_rate=$lr --unet_lr=$unet_lr --text_encoder_lr=$text_encoder_lr \
  --lr_scheduler=$lr_scheduler \
  --lr_warmup_steps=$lr_warmup_steps \
  --lr_scheduler_num_cycles=$lr_restart_cycles \
  --network_dim=$network_dim --network_alpha=$network_alpha \
  --output_name=$output_name \
  --train_batch_size=$batch_size \
  --save_every_n_epochs=$save_every_n_epochs \
  --mixed_precision="fp16" --save_precision="fp16" \
  --seed="1337" \
  --cache_latents \
  --max_token_length=225 \
  --caption_extension=".txt" \
  --save_model_as=$save_model_as \
  --keep_tokens=$keep_tokens \
  --xformers --shuffle_caption ${extArgs[@]} 2>&1 | tee train.log
echo "done; $(date)"
