"""Thresholds of the linter, and the reasons for them."""

# Learning rate times alpha / rank, the size of a step with Adam; sd-scripts' guides stay within 1e-5 and 1e-3 for it.
# Below a twentieth of 1e-4 almost nothing is learned in the usual 1500 steps; the miniature model that ships still
# trains well at 1e-3, and diverges above 2e-3.
MIN_LR, MAX_LR = 5e-6, 2e-3
MAX_LION_LR = 3e-4  # Lion takes steps of full length only: its authors (Chen et al. 2023) advise a third to a tenth
MIN_SELF_TUNED_LR = 0.1  # Prodigy and D-Adaptation estimate the learning rate and multiply it by lr, usually 1
MAX_ALPHA_RATIO = 1.0  # alpha / rank; more only increases the effective learning rate
MAX_TEXT_LR_RATIO = 0.8  # text encoder lr / U-Net lr; lora-scripts' default is 0.1, 0.5 is common

MIN_VIEWS = 200  # training samples of a run; fewer have hardly any effect. Usual: 1000 to 3000
MAX_VIEWS_PER_PHOTO = 500  # training samples per photo; usual is 50 to 200, more leads to overfitting
MAX_WARMUP_FRACTION = 0.5  # warmup steps / steps; usual is 0.05
MIN_BATCH_FILL = 0.7  # mean fill of the batches of an epoch; the last batch of a bucket is rarely full

# Training resolution / the model's native resolution. SD 1.5 is well trained at 768 (1.5); SDXL at
# 512 (0.5) forgets its composition, SD 1.5 at 1024 (2) draws things twice.
MIN_NATIVE_RATIO, MAX_NATIVE_RATIO = 0.7, 1.6
MAX_ENLARGEMENT = 1.25  # photos enlarged by more look soft

# `inspect.sharpness` of 13 sample photos of GFPGAN and Real-ESRGAN, 20 of scikit-image's and 18 portraits at 512 px:
# sharp ones 2.4 to 9.8, one out of focus 1.6; all blurred with sigma 1.5 pixels 1.4 to 1.9 (2.4 for a page of print).
# Faces in them, 64 px and larger: sharp 2.4 to 5.9, out of focus 2.0, blurred 1.5 to 2.1. Smaller copies only look
# sharper. Of 86 more portraits none was below 2.3.
MIN_SHARPNESS, MIN_FACE_SHARPNESS = 2.1, 2.2
MIN_EDGE_STRENGTH = 6.0  # grey levels: 7 and more in all of these photos, 3 to 6 when blurred by 4 pixels
MIN_SIDE = 128  # longer side; sharpness of smaller photos is not checked

# `inspect.image_distance` of the same photos, by hashes of 64 bits and 32 px thumbnails: saved again as JPEG or at half
# the size at most 4 bits and 5 grey levels; rotated by 1.5 degrees or cropped by 2 %, as photos of one burst are, 4 to
# 8 bits and 9 to 16. Of 210,000 pairs of different photos 10 were within 8 bits and 20 levels.
SAME_BITS, SAME_DISTANCE = 8, 16.0
COPY_DISTANCE = 6.0  # whatever the hash: photos that differ by less are duplicates

MIN_BRIGHTNESS = 60.0  # 95th percentile of the grey levels; below it a photo is too dark
MAX_BLANK_STD = 3.0  # std of the grey levels of an empty sheet with a scanner's noise

MIN_PHOTOS_FOR_CAPTIONS = 5  # number of photos from which on equal captions are reported
MIN_SNR_GAMMA = 1.0  # lower gammas give almost all timesteps a weight near 0; 5 is the paper's value
MAX_NOISE_OFFSET = 0.2  # larger noise offsets make every picture dark or bright; 0.05 is usual
