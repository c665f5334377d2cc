/*
 * Runs inside the guest: drives the accelerator of vfio-sim from user space,
 * through nothing but sysfs, /dev/mem and, where it is loaded, the small
 * driver in ../driver. One line of verdict for each check:
 *
 *   GUEST: ok NAME [key=value ...]     GUEST: fail NAME why
 *   GUEST: skip NAME why               GUEST: info key=value ...
 *   GUEST: PASS|FAIL ok=N fail=N skip=N
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

Options opt = {
    .mode = "firmware", .actions = "all", .prefix = "", .seed = "0",
    .lock = -1, .rounds = 20, .peer = true,
};

static void usage(void)
{
    puts("cxl-guest [--device=ADDRESS] [--mode=firmware|guest|any]\n"
         "          [--actions=all|NAME,...] [--driver=FILE] [--prefix=TEXT]\n"
         "          [--lock=0|1] [--token=HEX[:HEX...]] [--seed=TEXT]\n"
         "          [--no-peer] [--bridge] [--rounds=N] [--clears]\n"
         "          [--space-gate] [--peer-memory=ADDRESS]\n"
         "mode guest commits decoder 0 itself, any does so where it is not\n"
         "committed; with --bridge there is a decoder in the host bridge too,\n"
         "which it then programs. The names of checks begin with the prefix.\n"
         "A token for each device, in the order of vfio-sim's. With --clears\n"
         "the host's kernel clears the memory at a reset, with --space-gate it\n"
         "takes the memory away while Memory Space Enable is clear.\n"
         "actions: bar hidden lock token peek patterns unaligned whole rates\n"
         "         dma intx msix recommit signature; only by name: resets,\n"
         "         and wild, iommu: behind an IOMMU of the guest's; iommu also\n"
         "         reaches the memory of another device, at --peer-memory");
}

static const struct option options[] = {
    { "device", required_argument, NULL, 'D' },
    { "mode", required_argument, NULL, 'm' },
    { "actions", required_argument, NULL, 'a' },
    { "driver", required_argument, NULL, 'd' },
    { "prefix", required_argument, NULL, 'P' },
    { "lock", required_argument, NULL, 'l' },
    { "token", required_argument, NULL, 't' },
    { "seed", required_argument, NULL, 's' },
    { "rounds", required_argument, NULL, 'r' },
    { "bridge", no_argument, NULL, 'b' },
    { "no-peer", no_argument, NULL, 'p' },
    { "clears", no_argument, NULL, 'c' },
    { "space-gate", no_argument, NULL, 'S' },
    { "peer-memory", required_argument, NULL, 'M' },
    { "help", no_argument, NULL, 'h' },
    { }
};

static void parse_options(int argc, char **argv)
{
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'D':
            opt.device = optarg;
            break;
        case 'm':
            opt.mode = optarg;
            break;
        case 'a':
            opt.actions = optarg;
            break;
        case 'd':
            opt.driver = optarg;
            break;
        case 'P':
            opt.prefix = optarg;
            break;
        case 'l':
            opt.lock = atoi(optarg);
            break;
        case 't':
            opt.token = optarg;
            break;
        case 's':
            opt.seed = optarg;
            break;
        case 'r':
            opt.rounds = atoi(optarg);
            break;
        case 'b':
            opt.bridge = true;
            break;
        case 'p':
            opt.peer = false;
            break;
        case 'c':
            opt.clears = true;
            break;
        case 'S':
            opt.space_gate = true;
            break;
        case 'M':
            opt.peer_memory = strtoull(optarg, NULL, 0);
            break;
        default:
            usage();
            exit(c == 'h' ? 0 : 2);
        }
    }
}

/* Prerequisites for using the memory */
static bool prepare(void)
{
    bool guest_mode = !strcmp(opt.mode, "guest");
    bool committed;

    if (!find_device("device") || !enable_device("enable") ||
        !map_bars("registers") || !find_dvsecs("dvsec") ||
        !walk_component("component") || !read_windows("cfmws")) {
        return false;
    }
    if (wanted("bar")) {
        run_check("bar-rest", check_bar_rest);
    }
    committed = show_decoder();
    /* A later run of this program finds the commit of the first one */
    if ((guest_mode && !(committed && opt.driver)) ||
        (!strcmp(opt.mode, "any") && !committed)) {
        if (!commit_ourselves("commit")) {
            return false;
        }
    }
    if (!check_committed("decoder")) {
        return false;
    }
    if (wanted("hidden")) {
        run_check("hpa-hidden", check_hidden);
    }
    if (wanted("lock") && !strcmp(opt.mode, "firmware")) {
        run_check("lock", check_lock);
    }
    return map_window("map");
}

int main(int argc, char **argv)
{
    struct sigaction sa = { .sa_sigaction = on_fault,
                            .sa_flags = SA_SIGINFO | SA_NODEFER };

    parse_options(argc, argv);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGSEGV, &sa, NULL);

    if (!prepare()) {
        finish();
    }
    if (wanted("token")) {
        run_check("host-bytes", check_token);
    }
    if (wanted("peek")) {
        run_check("window-peek", check_peek);
    }
    if (wanted("patterns")) {
        run_check("window-data", check_patterns);
    }
    if (wanted("unaligned")) {
        run_check("window-unaligned", check_unaligned);
    }
    if (wanted("whole")) {
        run_check("window-whole", check_whole);
    }
    if (wanted("rates")) {
        run_check("rates", check_rates);
    }
    if (wanted("dma") && make_buffer("buffer")) {
        run_check("dma-local", check_dma_local);
        run_check("dma-window", check_dma_window);
        run_check("dma-fault", check_dma_fault);
    }
    if (wanted("intx") && !opt.driver) {
        run_check("intx", check_intx);
    }
    if (wanted("msix") && opt.driver) {
        run_check("msix", check_msix);
    }
    if (wanted("recommit") && !strcmp(opt.mode, "guest") && !opt.driver) {
        run_check("recommit", check_recommit);
    }
    if (wanted("resets") && strcmp(opt.actions, "all")) {
        run_check("resets", check_resets);
    }
    if (wanted("wild") && strcmp(opt.actions, "all")) {
        run_check("wild", check_wild);
    }
    if (wanted("iommu") && strcmp(opt.actions, "all") &&
        make_buffer("buffer")) {
        run_check("iommu", check_iommu);
    }
    if (wanted("signature")) {
        run_check("signature", write_signature);
    }
    show_decoder();
    finish();
}
