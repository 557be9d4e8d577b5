/* A driver for libcamera's virtual camera, preloaded by a test: frame memory, a frame rate, and faults on demand.
 *
 * The virtual camera needs the kernel's DMA heaps, which few test machines have. Here, frame memory is a memfd. Each
 * fault lasts while a file of its name is in the folder $CAMERA_FAULTS. A hang marks its begin by NAME.reached there.
 *
 *   hang-enumeration  looking for cameras does not return
 *   hang-frames       the camera's thread stands still, so that no frame comes and a stop does not return
 *   lose-frames       completed frames are not announced; a stop works
 *   break-memory      access to a frame's memory fails
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>

#define FRAME_MS 32
#define MAPS_PER_FRAME 4 /* two planes of two streams */

static void sleep_ms(long ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&pause, NULL);
}

static int has_fault(const char *name)
{
	char path[256];
	const char *folder = getenv("CAMERA_FAULTS");
	return folder && snprintf(path, sizeof path, "%s/%s", folder, name) > 0 && access(path, F_OK) == 0;
}

static void hang_during(const char *name)
{
	char path[256];
	if (!has_fault(name))
		return;
	snprintf(path, sizeof path, "%s/%s.reached", getenv("CAMERA_FAULTS"), name);
	close(syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	while (has_fault(name))
		sleep_ms(20);
}

/* libcamera reads the virtual camera's images while it enumerates the cameras. */
int open64(const char *path, int flags, ...)
{
	va_list rest;
	va_start(rest, flags);
	mode_t mode = va_arg(rest, mode_t);
	va_end(rest);
	if (strstr(path, "/virtual-camera/"))
		hang_during("hang-enumeration");
	return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open(const char *path, int flags, ...) __attribute__((alias("open64")));

int ioctl(int descriptor, unsigned long request, ...)
{
	va_list rest;
	va_start(rest, request);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	if (request == DMA_HEAP_IOCTL_ALLOC) {
		struct dma_heap_allocation_data *memory = argument;
		int made = memfd_create("frame", MFD_CLOEXEC);
		if (made < 0 || ftruncate(made, memory->len))
			return -1;
		memory->fd = made;
		return 0;
	}
	if (_IOC_TYPE(request) == DMA_BUF_BASE) {
		errno = EIO;
		return has_fault("break-memory") ? -1 : 0;
	}
	return syscall(SYS_ioctl, descriptor, request, argument);
}

/* The virtual camera maps a buffer to write each frame, as nothing else does, and otherwise makes frames at once. */
void *mmap64(void *address, size_t length, int protection, int flags, int descriptor, off_t offset)
{
	if (descriptor >= 0 && protection == PROT_WRITE) {
		sleep_ms(FRAME_MS / MAPS_PER_FRAME);
		hang_during("hang-frames");
	}
	return (void *)syscall(SYS_mmap, address, length, protection, flags, descriptor, offset);
}
void *mmap(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap64")));

/* libcamera's Python binding announces completed frames on an eventfd, and reads it before it gives them, at a stop too. */
static atomic_int unannounced;

static int is_event(size_t count, void *caller)
{
	Dl_info found;
	return count == 8 && dladdr(caller, &found) && strstr(found.dli_fname, "_libcamera");
}

ssize_t write(int descriptor, const void *bytes, size_t count)
{
	if (is_event(count, __builtin_return_address(0)) && has_fault("lose-frames")) {
		unannounced = 1;
		return count;
	}
	return syscall(SYS_write, descriptor, bytes, count);
}

ssize_t read(int descriptor, void *bytes, size_t count)
{
	ssize_t length = syscall(SYS_read, descriptor, bytes, count);
	if (is_event(count, __builtin_return_address(0)) && atomic_exchange(&unannounced, 0) && length < 0) {
		memset(bytes, 1, count);
		return count;
	}
	return length;
}

/* The virtual camera of libcamera 0.4 never sets a frame's status; zero is success. */
void *malloc(size_t size)
{
	return calloc(1, size);
}
