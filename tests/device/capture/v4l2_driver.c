/* A V4L2 driver with one camera, preloaded by a test: /dev/video99 sends one frame again and again.
 *
 * Few test machines have a camera, or a kernel with the test camera vivid. Variables say how it behaves:
 *
 *   V4L2_FORMAT  the only pixel format that it has, as a number
 *   V4L2_WIDTH, V4L2_HEIGHT  the only size
 *   V4L2_FRAME   the file with the frame
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE "/dev/video99"

static int device = -1; /* a memfd with the only buffer, at its beginning */
static size_t frame_size, buffer_size;

static unsigned number(const char *name)
{
	return strtoul(getenv(name), NULL, 0);
}

static int open_device(void)
{
	struct stat status;
	int file = openat(AT_FDCWD, getenv("V4L2_FRAME"), O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &status) < 0)
		return -1;
	frame_size = status.st_size;
	/* OpenCV expects two bytes a pixel at least, as many drivers have. */
	buffer_size = 2 * number("V4L2_WIDTH") * number("V4L2_HEIGHT");
	if (buffer_size < frame_size)
		buffer_size = frame_size;
	device = memfd_create("v4l2-buffer", MFD_CLOEXEC);
	if (device < 0 || ftruncate(device, buffer_size) < 0)
		return -1;
	void *buffer = mmap(NULL, buffer_size, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
	if (buffer == MAP_FAILED || read(file, buffer, frame_size) != (ssize_t)frame_size)
		return -1;
	munmap(buffer, buffer_size);
	close(file);
	return device;
}

static int do_open(const char *name, const char *path, int flags, mode_t mode)
{
	if (strcmp(path, NODE) == 0)
		return open_device();
	int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
	return next(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
	va_list rest;
	va_start(rest, flags);
	mode_t mode = va_arg(rest, mode_t);
	va_end(rest);
	return do_open("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list rest;
	va_start(rest, flags);
	mode_t mode = va_arg(rest, mode_t);
	va_end(rest);
	return do_open("open64", path, flags, mode);
}

static int answer(unsigned long request, void *argument)
{
	struct v4l2_capability *capability = argument;
	struct v4l2_fmtdesc *description = argument;
	struct v4l2_frmsizeenum *size = argument;
	struct v4l2_format *format = argument;
	struct v4l2_streamparm *rate = argument;
	struct v4l2_requestbuffers *buffers = argument;
	struct v4l2_buffer *buffer = argument;

	switch (request) {
	case VIDIOC_QUERYCAP:
		memset(capability, 0, sizeof *capability);
		capability->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
		return 0;
	case VIDIOC_ENUM_FMT:
		description->pixelformat = number("V4L2_FORMAT");
		return description->index ? EINVAL : 0;
	case VIDIOC_ENUM_FRAMESIZES:
		size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
		size->discrete.width = number("V4L2_WIDTH");
		size->discrete.height = number("V4L2_HEIGHT");
		return size->index ? EINVAL : 0;
	case VIDIOC_G_FMT:
	case VIDIOC_S_FMT: /* whatever was asked for */
		format->fmt.pix.pixelformat = number("V4L2_FORMAT");
		format->fmt.pix.width = number("V4L2_WIDTH");
		format->fmt.pix.height = number("V4L2_HEIGHT");
		format->fmt.pix.field = V4L2_FIELD_NONE;
		format->fmt.pix.sizeimage = buffer_size;
		return 0;
	case VIDIOC_G_PARM:
	case VIDIOC_S_PARM:
		rate->parm.capture.timeperframe = (struct v4l2_fract){ 1, 30 };
		return 0;
	case VIDIOC_REQBUFS:
		buffers->count = buffers->count > 1 ? 1 : buffers->count;
		return 0;
	case VIDIOC_QUERYBUF:
		buffer->length = buffer_size;
		buffer->m.offset = 0;
		return 0;
	case VIDIOC_DQBUF:
		usleep(20000);
		buffer->index = 0;
		buffer->length = buffer_size;
		buffer->bytesused = frame_size;
		return 0;
	case VIDIOC_QBUF:
	case VIDIOC_STREAMON:
	case VIDIOC_STREAMOFF:
		return 0;
	}
	return EINVAL;
}

int ioctl(int descriptor, unsigned long request, ...)
{
	va_list rest;
	va_start(rest, request);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	if (device < 0 || descriptor != device) {
		int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
		return next(descriptor, request, argument);
	}
	errno = answer((unsigned)request, argument);
	return errno ? -1 : 0;
}
