/* The limit that other receivers are held against: a C loop around recvmmsg(2), or recvfrom(2).
 *
 * It speaks the protocol of benchmarks/receivers/meter.py: a line when it has joined, and a line
 * with its figures whenever SIGUSR1 arrives.
 */

#include "common.h"

#define DELAYS 1000000

static long long datagrams;
static uint32_t *delays; /* nanoseconds; NULL unless they are asked for */
static volatile int delay_count;

static int ascending(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* Prints from a signal handler. That is safe here, for the signal is blocked until the main loop
 * begins, and that only makes system calls: stdio and malloc are never interrupted halfway. */
static void report(int signal) {
    (void)signal;
    int saved = errno;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"datagrams\": %lld, \"user\": %.6f, \"system\": %.6f, \"time\": %.6f, \"delays\": ",
           datagrams, seconds(usage.ru_utime), seconds(usage.ru_stime), now() / 1e9);
    if (delay_count) {
        qsort(delays, delay_count, sizeof *delays, ascending);
        printf("{\"count\": %d, \"median\": %.9f, \"p99\": %.9f}", delay_count,
               delays[delay_count / 2] / 1e9, delays[delay_count * 99LL / 100] / 1e9);
        delay_count = 0;
    } else {
        printf("null");
    }
    printf(", \"lateness\": null}\n");
    fflush(stdout);
    errno = saved;
}

static int open_group(const char *first, int number, int port, int interface, int buffer, int gro,
                      int packet_info) {
    int sock = socket(AF_INET, SOCK_DGRAM, 0), on = 1, off = 0;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct ip_mreqn join = {.imr_ifindex = interface};
    name.sin_addr = join.imr_multiaddr = numbered_group(first, number);
    check(sock, "socket");
    check(setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "SO_REUSEADDR");
    check(setsockopt(sock, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof off), "IP_MULTICAST_ALL");
    if (buffer && setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0)
        check(setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer), "SO_RCVBUF");
    if (gro) check(setsockopt(sock, IPPROTO_UDP, UDP_GRO, &on, sizeof on), "UDP_GRO");
    if (packet_info) {
        check(setsockopt(sock, IPPROTO_IP, IP_RECVTTL, &on, sizeof on), "IP_RECVTTL");
        check(setsockopt(sock, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on), "SO_TIMESTAMPNS");
    }
    check(bind(sock, (struct sockaddr *)&name, sizeof name), "bind");
    check(setsockopt(sock, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join), "IP_ADD_MEMBERSHIP");
    return sock;
}

static void note_delay(const char *payload, long long arrival) {
    long long stamp;
    memcpy(&stamp, payload, sizeof stamp);
    if (delay_count < DELAYS) delays[delay_count++] = arrival - stamp;
}

/* How many datagrams the kernel has merged into this one (UDP_GRO). */
static long long count_merged(struct msghdr *header, unsigned length) {
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item))
        if (item->cmsg_level == IPPROTO_UDP && item->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(item), sizeof size);
            return (length + size - 1) / size;
        }
    return 1;
}

static struct mmsghdr headers[BATCH];
static char controls[BATCH][128];

static void prepare_batch(void) {
    static struct iovec vectors[BATCH];
    static struct sockaddr_in names[BATCH];
    char *payloads = allocate(BATCH, LARGEST + 4096 + 64);
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){payloads + i * (LARGEST + 4096L + 64), LARGEST};
        headers[i].msg_hdr.msg_iov = &vectors[i];
        headers[i].msg_hdr.msg_iovlen = 1;
        headers[i].msg_hdr.msg_name = &names[i];
        headers[i].msg_hdr.msg_namelen = sizeof names[i];
    }
}

static void read_batch(int sock, int flags, int with_control) {
    for (int i = 0; with_control && i < BATCH; i++) {
        headers[i].msg_hdr.msg_control = controls[i];
        headers[i].msg_hdr.msg_controllen = sizeof controls[i];
    }
    int count = recvmmsg(sock, headers, BATCH, flags, NULL);
    if (count < 0 && errno != EINTR && errno != EAGAIN) fail("recvmmsg");
    long long arrival = delays ? now() : 0;
    for (int i = 0; i < count; i++) {
        datagrams += with_control ? count_merged(&headers[i].msg_hdr, headers[i].msg_len) : 1;
        if (delays) note_delay(headers[i].msg_hdr.msg_iov->iov_base, arrival);
    }
}

static void read_one(int sock) {
    static char payload[LARGEST];
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    if (recvfrom(sock, payload, sizeof payload, 0, (struct sockaddr *)&name, &size) < 0) {
        if (errno != EINTR) fail("recvfrom");
        return;
    }
    datagrams++;
    if (delays) note_delay(payload, now());
}

static void wait_and_read_many(int poll, int with_control) {
    struct epoll_event events[BATCH];
    int count = epoll_wait(poll, events, BATCH, -1);
    for (int i = 0; i < count; i++) read_batch(events[i].data.fd, MSG_DONTWAIT, with_control);
}

enum { PORT = 1, GROUP, GROUPS, INTERFACE, LIMIT, BUFFER, TIMING, GRO, PACKET_INFO, ONE_BY_ONE };

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, PORT},           {"group", 1, 0, GROUP},
        {"groups", 1, 0, GROUPS},       {"interface", 1, 0, INTERFACE},
        {"limit", 1, 0, LIMIT},         {"receive-buffer", 1, 0, BUFFER},
        {"timing", 0, 0, TIMING},       {"gro", 0, 0, GRO},
        {"packet-info", 0, 0, PACKET_INFO}, {"one-by-one", 0, 0, ONE_BY_ONE},
        {0, 0, 0, 0}};
    const char *group = NULL;
    int port = 0, groups = 1, interface = 0, buffer = 0, gro = 0, info = 0, one_by_one = 0, choice;
    while ((choice = getopt_long(argc, argv, "", options, NULL)) != -1) switch (choice) {
            case PORT: port = atoi(optarg); break;
            case GROUP: group = optarg; break;
            case GROUPS: groups = atoi(optarg); break;
            case INTERFACE: interface = if_nametoindex(optarg); break;
            case LIMIT: alarm(atoi(optarg)); break;
            case BUFFER: buffer = atoi(optarg); break;
            case TIMING: delays = allocate(DELAYS, sizeof *delays); break;
            case GRO: gro = 1; break;
            case PACKET_INFO: info = 1; break;
            case ONE_BY_ONE: one_by_one = 1; break;
            default: return 2;
        }
    if (!port || !group || !interface) {
        fprintf(stderr, "--port, --group and --interface are needed\n");
        return 2;
    }
    prepare_batch();
    sigset_t asked;
    sigemptyset(&asked);
    sigaddset(&asked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &asked, NULL);
    struct sigaction action = {.sa_handler = report, .sa_flags = SA_RESTART};
    check(sigaction(SIGUSR1, &action, NULL), "sigaction");

    long long began = now();
    int sock = -1, poll = epoll_create1(0);
    for (int i = 0; i < groups; i++) {
        sock = open_group(group, i, port, interface, buffer, gro, info);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = sock};
        check(epoll_ctl(poll, EPOLL_CTL_ADD, sock, &event), "epoll_ctl");
    }
    printf("{\"opening\": %.6f, \"memory\": 0}\n", (now() - began) / 1e9);
    fflush(stdout);
    sigprocmask(SIG_UNBLOCK, &asked, NULL);

    for (;;) {
        if (groups > 1)
            wait_and_read_many(poll, gro || info);
        else if (one_by_one)
            read_one(sock);
        else
            read_batch(sock, MSG_WAITFORONE, gro || info);
    }
}
