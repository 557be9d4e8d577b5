"""Sources of frames: cameras, streams, videos, folders of images and the demo."""
