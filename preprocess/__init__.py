"""Videos to shards: scan, extract, verify, synth."""

import os

# Read by OpenCV when it is imported, and when it opens a file. Decoders complain on standard error
# about every damaged block, which drowns our own messages; and a file that is really a play list
# must not make the demuxer open network addresses.
OPENCV_VARIABLES = {
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file",
    "OPENCV_LOG_LEVEL": "SILENT",
}
for _name, _value in OPENCV_VARIABLES.items():
    os.environ.setdefault(_name, _value)
