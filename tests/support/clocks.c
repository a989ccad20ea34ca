/* Clocks that a test moves, and a kernel that refuses netlink, for a real binary: preloaded before the C library.
 * CLOCK_OFFSETS names a file of three 64-bit numbers: what is added to the wall clock, to CLOCK_MONOTONIC and to
 * CLOCK_BOOTTIME, in milliseconds. With DENY_NETLINK set, netlink sockets are refused as a sandbox refuses them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offsets(void) {
    static const volatile int64_t *map;
    if (!map) {
        const char *path = getenv("CLOCK_OFFSETS");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *at = fd < 0 ? MAP_FAILED : mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED)
            abort();
        close(fd);
        map = at;
    }
    return map;
}

int clock_gettime(clockid_t id, struct timespec *time) {
    int64_t offset, nanoseconds;
    if (syscall(SYS_clock_gettime, id, time) != 0)
        return -1;
    switch (id) {
    case CLOCK_REALTIME:
        offset = offsets()[0];
        break;
    case CLOCK_MONOTONIC:
        offset = offsets()[1];
        break;
    case CLOCK_BOOTTIME:
        offset = offsets()[2];
        break;
    default:
        return 0;
    }
    nanoseconds = time->tv_nsec + offset % 1000 * 1000000;
    time->tv_sec += offset / 1000 + nanoseconds / 1000000000 - (nanoseconds < 0);
    time->tv_nsec = (nanoseconds + 1000000000) % 1000000000;
    return 0;
}

int socket(int family, int kind, int protocol) {
    if (family == AF_NETLINK && getenv("DENY_NETLINK")) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return syscall(SYS_socket, family, kind, protocol);
}
