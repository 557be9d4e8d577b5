"""Where frames come from: cameras, streams, videos, folders of images and the demo."""
