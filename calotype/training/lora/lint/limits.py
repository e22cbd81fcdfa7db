"""What counts as too little, too much or too alike, and why: the only place where the linter's numbers stand."""

# How strongly a step changes the weights. With Adam a step's length is the rate, times alpha / rank; sd-scripts'
# guides stay within 1e-5 and 1e-3 for it. Below a twentieth of 1e-4 nothing is learnt in the usual 1500 steps; the
# miniature model that ships still learns well at 1e-3, and breaks above 2e-3.
LEAST_RATE, MOST_RATE = 5e-6, 2e-3
MOST_LION = 3e-4  # Lion takes steps of full length only: its authors (Chen et al. 2023) advise a third to a tenth
LEAST_OWN = 0.1  # Prodigy and D-Adaptation find the rate themselves, and multiply it by what is told; they want 1
MOST_ALPHA = 1.0  # alpha over rank; more only makes the rate larger than it looks
ALIKE_RATES = 0.8  # text encoder's rate over the U-Net's; lora-scripts' own setting is 0.1, half is common

FEW_VIEWS = 200  # photos shown in a whole run; what is learnt from fewer is hardly seen. Usual: 1000 to 3000
MANY_VIEWS = 500  # times that one photo is shown; usual is 50 to 200, beyond this photos are learnt by heart
LONG_WARMUP = 0.5  # share of all steps in which the rate still rises; usual is 0.05
HALF_FULL = 0.7  # how full the batches of an epoch are; what one bucket holds rarely fills its last one

# Sides of the training pictures over those the model was trained on. SD 1.5 is well trained at 768 (1.5); SDXL at
# 512 (0.5) forgets its composition, SD 1.5 at 1024 (2) draws things twice.
LEAST_NATIVE, MOST_NATIVE = 0.7, 1.6
ENLARGED = 1.25  # photos that are enlarged more than this look soft to the eye

# How much weaker edges get by a slight blur (glance.sharpness), on 13 sample photos of GFPGAN and Real-ESRGAN, 20 of
# scikit-image's and 18 portraits, 512 px: sharp ones 2.4 to 9.8, and one at 1.6 that is out of focus to the eye; the
# same blurred by a deviation of 1.5 pixels 1.4 to 1.9 (2.4 for a page of print). Faces in them, 64 px and more:
# sharp 2.4 to 5.9, that one 2.0, blurred 1.5 to 2.1. Smaller pictures of the
# same only look sharper. Of 86 more portraits none was below 2.3.
BLURRED, BLURRED_FACE = 2.1, 2.2
NO_EDGES = 6.0  # grey levels of the strongest edges: 7 and more in all of these photos, 3 to 6 when blurred by 4 pixels
TOO_SMALL_TO_TELL = 128  # longer side of photos whose sharpness is not judged

# Hashes of 64 bits and 32 px copies (glance.apart), on the same photos: saved again as JPEG or at half the size 4 bits
# at most and a difference of 5 grey levels; turned by 1.5 degrees or cropped by 2 %, as photos of one burst are, 4 to
# 8 bits and 9 to 16. Of 210,000 pairs of different photos 10 were within 8 bits and 20 levels.
SAME_BITS, SAME_LOOK = 8, 16.0
COPY_LOOK = 6.0  # whatever the bits: photos that differ by less are one photo

DARK = 60.0  # grey level that 95 % of a photo do not reach: nothing in it can be made out
PLAIN = 3.0  # deviation of the grey levels of an empty sheet with a scanner's noise

FEW_PHOTOS = 5  # photos from which on equal captions are more than chance
WIDE_SNR = 1.0  # min-SNR gammas below this weigh all but the noisiest steps away; 5 is the paper's and everybody's
MOST_OFFSET = 0.2  # noise offsets above this make every picture dark or bright; 0.05 is usual
