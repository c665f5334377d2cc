/*
 * vfio-sim: the configuration in a state directory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

void sim_config_host(unsigned index, char *host, size_t size)
{
    snprintf(host, size, "0000:%02x:00.0", SIM_FIRST_BUS + index);
}

unsigned sim_config_smmu(const SimConfig *cfg, unsigned index)
{
    return index * cfg->smmu.count / cfg->devices;
}

bool sim_parse_number(const char *text, uint64_t max, uint64_t *value)
{
    unsigned base = text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10;
    uint64_t n = 0;

    text += base == 16 ? 2 : 0;
    if (!*text) {
        return false;
    }
    for (; *text; text++) {
        unsigned c = (unsigned char)*text;
        unsigned digit = c - '0' < 10 ? c - '0' : (c | 0x20) - 'a' + 10;

        if (digit >= base || (c - '0' >= 10 && (c | 0x20) < 'a') ||
            digit > max || n > (max - digit) / base) {
            return false;
        }
        n = n * base + digit;
    }
    *value = n;
    return true;
}

static void config_line(SimConfig *cfg, char *key, const char *value)
{
    uint64_t number = 0;
    unsigned n;

    sim_parse_number(value, UINT64_MAX, &number);
    if (!strcmp(key, "id")) {
        snprintf(cfg->id, sizeof(cfg->id), "%s", value);
    } else if (!strcmp(key, "kernel")) {
        snprintf(cfg->kernel, sizeof(cfg->kernel), "%s", value);
    } else if (!strcmp(key, "iova")) {
        snprintf(cfg->iova, sizeof(cfg->iova), "%s", value);
    } else if (!strcmp(key, "smmus")) {
        cfg->smmu.count = number > SIM_MAX_DEVICES ? 0 : number;
    } else if (!strcmp(key, "smmu-ats")) {
        cfg->smmu.ats = number;
    } else if (!strcmp(key, "smmu-pasid-bits")) {
        cfg->smmu.pasid_bits = number;
    } else if (!strcmp(key, "smmu-oas")) {
        cfg->smmu.oas = number;
    } else if (!strcmp(key, "devices")) {
        cfg->devices = number > SIM_MAX_DEVICES ? 0 : number;
    } else if (!strcmp(key, "memory")) {
        cfg->memory = number;
    } else if (!strcmp(key, "decoders")) {
        cfg->decoders = number;
    } else if (!strcmp(key, "decoder")) {
        snprintf(cfg->decoder, sizeof(cfg->decoder), "%s", value);
    } else if (!strcmp(key, "inactive")) {
        cfg->inactive = number;
    } else if (!strcmp(key, "topology")) {
        cfg->topology = value[0];
    } else if (!strcmp(key, "raise-memlock")) {
        cfg->raise_memlock = number;
    } else if (!strcmp(key, "fault") && cfg->num_faults < SIM_MAX_SPECS) {
        cfg->faults[cfg->num_faults++] = strdup(value);
    } else if (!strcmp(key, "set") && cfg->num_knobs < SIM_MAX_SPECS) {
        cfg->knobs[cfg->num_knobs++] = strdup(value);
    } else if (sscanf(key, "memory-file.%u", &n) == 1 && n < SIM_MAX_DEVICES) {
        snprintf(cfg->memory_file[n], SIM_PATH_MAX, "%s", value);
    }
}

int sim_config_load(SimConfig *cfg, const char *dir)
{
    char path[SIM_PATH_MAX + 8];
    char line[SIM_PATH_MAX + 64];
    FILE *f;

    memset(cfg, 0, sizeof(*cfg));
    snprintf(cfg->dir, sizeof(cfg->dir), "%s", dir);
    snprintf(path, sizeof(path), "%s/config", dir);
    f = fopen(path, "re");
    if (!f) {
        return -errno;
    }
    while (fgets(line, sizeof(line), f)) {
        char *eq = strchr(line, '=');

        line[strcspn(line, "\n")] = '\0';
        if (eq) {
            *eq = '\0';
            config_line(cfg, line, eq + 1);
        }
    }
    fclose(f);
    if (!cfg->id[0] || !cfg->devices || cfg->devices > SIM_MAX_DEVICES) {
        return -EINVAL;
    }
    return 0;
}

const char *sim_config_bound(const SimConfig *cfg)
{
    bool committed = strcmp(cfg->decoder, "uncommitted");
    bool simple = cfg->decoders == 1 && strcmp(cfg->decoder, "interleaved");

    /* v6 waits for it, up to the device's own limit */
    if (!strcmp(cfg->kernel, "v6") && cfg->inactive) {
        return "none";
    }
    if (!strncmp(cfg->kernel, "v2", 2)) {
        return committed ? cfg->kernel : "none";
    }
    if (committed && simple) {
        return cfg->kernel;
    }
    return strcmp(cfg->kernel, "v3") ? "none" : NULL;
}

int sim_config_save(const SimConfig *cfg)
{
    char path[SIM_PATH_MAX + 8];
    FILE *f;
    unsigned i;

    snprintf(path, sizeof(path), "%s/config", cfg->dir);
    f = fopen(path, "we");
    if (!f) {
        return -errno;
    }
    fprintf(f, "id=%s\nkernel=%s\niova=%s\ndevices=%u\nmemory=%llu\n"
            "topology=%c\ndecoders=%u\ndecoder=%s\ninactive=%d\n"
            "raise-memlock=%d\n",
            cfg->id, cfg->kernel, cfg->iova, cfg->devices,
            (unsigned long long)cfg->memory,
            cfg->topology, cfg->decoders, cfg->decoder, cfg->inactive,
            cfg->raise_memlock);
    if (cfg->smmu.count) {
        fprintf(f, "smmus=%u\nsmmu-ats=%d\nsmmu-pasid-bits=%u\n"
                "smmu-oas=%u\n", cfg->smmu.count, cfg->smmu.ats,
                cfg->smmu.pasid_bits, cfg->smmu.oas);
    }
    for (i = 0; i < cfg->devices; i++) {
        fprintf(f, "memory-file.%u=%s\n", i, cfg->memory_file[i]);
    }
    for (i = 0; i < cfg->num_faults; i++) {
        fprintf(f, "fault=%s\n", cfg->faults[i]);
    }
    for (i = 0; i < cfg->num_knobs; i++) {
        fprintf(f, "set=%s\n", cfg->knobs[i]);
    }
    return fclose(f) ? -errno : 0;
}
