/* What both programs need: arguments, groups, clocks, errors. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104 /* linux/udp.h */
#endif

#define BATCH 64
#define LARGEST 65536
#define SECOND 1000000000LL

static void fail(const char *step) {
    perror(step);
    exit(1);
}

static void check(int result, const char *step) {
    if (result < 0) fail(step);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("calloc");
    return memory;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static double seconds(struct timeval time) { return time.tv_sec + time.tv_usec / 1e6; }

/* The group with this number: consecutive addresses from the first one. */
static struct in_addr numbered_group(const char *first, int number) {
    struct in_addr address;
    if (inet_pton(AF_INET, first, &address) != 1) fail("inet_pton");
    address.s_addr = htonl(ntohl(address.s_addr) + number);
    return address;
}
