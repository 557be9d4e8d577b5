"""The largest inputs that fer-edge reads; ``docs/reference/limits.md`` shows them in one table."""

from __future__ import annotations

from typing import Final

# Sizes of files and of unpacked members, in bytes.
MODEL_BYTES: Final = 128 << 20
CARD_BYTES: Final = 1 << 20
TEXT_BYTES: Final = 256 << 10  # a configuration, recipe, label map, list of labels or password
TEXT_LINE: Final = 8192  # characters of one of their lines
JSON_BYTES: Final = 16 << 20  # a result of `fer-edge bench`
IMAGE_BYTES: Final = 256 << 20
TABLE_BYTES: Final = 2 << 30
TABLE_ROW_BYTES: Final = 1 << 20
TABLE_ROWS: Final = 500_000  # of a table that is read into memory

# Archives.
ARCHIVE_DIRECTORY_BYTES: Final = 32 << 20  # of a zip: 300,000 members or more
ARCHIVE_HEADER_BYTES: Final = 1 << 20  # of one member of a tar, with its long names
ARCHIVE_BYTES: Final = 16 << 30  # unpacked, of a dataset
ARCHIVE_MEMBERS: Final = 500_000
ARCHIVE_RATIO: Final = 100  # of unpacked to packed size
ARCHIVE_RATIO_FREE_BYTES: Final = 16 << 20  # a smaller member may have any ratio
DECODER_BYTES: Final = 128 << 20  # that a decoder of LZMA may use

# What a face detector takes at a time, in pixels; a larger image is searched in tiles.
DETECTOR_PIXELS: Final = 1 << 22
YUNET_PIXELS: Final = 1 << 20

# Processes that tag.
WAITING_BYTES: Final = 128 << 20  # of images from archives that are queued or in work
WAITING_BYTES_PER_THREAD: Final = 8 << 20  # the same of each thread of a cluster
PATIENCE_S: Final = 120  # without a sign of progress: far beyond what any image takes, also on a Pi

# Cards.
LABELS: Final = 1000
LABEL_CHARACTERS: Final = 60  # a file name of them, in UTF-8, must not be longer than 255 bytes

# Models in a runtime.
TRIAL_BYTES: Final = 600 << 20
TRIAL_CPU_S: Final = 8
TRIAL_S: Final = 25.0

# Keras models, SavedModel folders, ONNX and .pt2 files, which a process of its own reads.
KERAS_BYTES: Final = 1 << 30
KERAS_OBJECTS: Final = 100_000  # arrays and groups of a file, or files of a folder
CONVERSION_BYTES: Final = 2 << 30  # beyond what TensorFlow itself takes
CONVERSION_BYTES_PER_BYTE: Final = 6  # of the model, in addition
CONVERSION_CPU_S: Final = 60
CONVERSION_CPU_S_PER_MB: Final = 2  # of the model, in addition

# Pages.
PAGE_CONNECTIONS: Final = 128
PAGE_CONNECTIONS_OF_ADDRESS: Final = 64
PAGE_HEADER_BYTES: Final = 16 << 10
PAGE_BODY_BYTES: Final = 4 << 10  # of a request that uploads nothing
UPLOADS: Final = 4  # at a time, each in memory
UPLOAD_IMAGE_BYTES: Final = 64 << 20
UPLOAD_VIDEO_BYTES: Final = 256 << 20
UPLOAD_VIDEO_S: Final = 300

# Images, in pixels of the image as it is stored.
JPEG_PIXELS: Final = 1 << 30  # decoded at a smaller scale
SCANNED_JPEG_PIXELS: Final = 1 << 31  # pixels times scans, each of which takes time
GRAY_PIXELS: Final = 1 << 27  # decoded
COLOUR_PIXELS: Final = 1 << 26  # decoded
STORED_PIXEL_BYTES: Final = 1 << 29  # of all pixels as they are stored
DECODING_BYTES: Final = 1 << 29  # file, decoded image, and all coefficients of some JPEGs or a strip of a TIFF
JPEG_SEGMENTS: Final = 20_000  # before the pixels
PNG_CHUNKS: Final = 200_000
PNG_PACKED_TEXTS: Final = 200  # which the decoder unpacks, up to 8 MB each
HEIF_PIXELS: Final = 50_000_000
JPEG2000_PIXELS: Final = 25_000_000
DECODER_PROCESS_BYTES: Final = 600 << 20  # of a decoder that has a process of its own
DECODER_PROCESS_S: Final = 8.0

LIBRARY_CALL_BYTES: Final = 400_000_000  # that a call of FFmpeg or of Parquet's reader may take

# Videos.
VIDEO_PIXELS: Final = 1 << 25  # of a frame: those of 8K
VIDEO_BYTES_WITHOUT_FRAME: Final = 1_000_000_000  # that are searched for the first or the next frame
VIDEO_DECODER_BYTES: Final = 350_000_000  # of all frames that a decoder keeps: seven of 8K

# Reviews.
REVIEW_FACES: Final = 200_000  # of a folder
REVIEW_IMAGE_BYTES: Final = 16 << 20  # of one file
MANIFEST_BYTES: Final = 512 << 20
