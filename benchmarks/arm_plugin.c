/* Counts executed A64 instructions, by kind and by address, between marks that the program sets.
 *
 * Load it into qemu-aarch64 with -plugin FILE,out=RESULT. A mark is a call of close() with a descriptor of 0x5eed0000 or
 * more, which no program has open. At each mark a line "mark NUMBER" is written to RESULT, and before it one line for
 * each block of code that ran since the last mark: address, runs, and per run the instructions, those on vectors and
 * floats, the dot products, and the loads and stores.
 *
 * The few functions of QEMU's plugin interface that are used are declared here, so that no header is needed. This is
 * version 1 of the interface, of QEMU 4.2 to 8.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x5eed0000u
#define SYS_CLOSE 57 /* on arm64 */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*callback)(unsigned, void *), int flags,
                                          void *data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id,
                                          void (*callback)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

EXPORT int qemu_plugin_version = 1;

struct block {
    struct block *next;
    uint64_t address, runs, runs_at_mark;
    unsigned instructions, vector, dot, memory;
};

static struct block *blocks;
static FILE *result;

static uint32_t word_of(struct qemu_plugin_insn *insn)
{
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
    return word;
}

/* See "A64 instruction set encoding" in the Arm Architecture Reference Manual. */
static void count_kind(struct block *block, uint32_t word)
{
    uint32_t group = word >> 25 & 0xf;
    block->vector += (group & 0x7) == 0x7;
    block->memory += (group & 0x5) == 0x4;
    /* SDOT and UDOT: by vector, and by element. */
    block->dot += (word & 0x9f20fc00) == 0x0e009400 || (word & 0x9f00f400) == 0x0f00e000;
}

static void on_run(unsigned cpu, void *data)
{
    (void)cpu;
    __atomic_fetch_add(&((struct block *)data)->runs, 1, __ATOMIC_RELAXED);
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb)
{
    struct block *block = calloc(1, sizeof *block);
    (void)id;
    if (!block)
        abort();
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < block->instructions; i++)
        count_kind(block, word_of(qemu_plugin_tb_get_insn(tb, i)));
    block->next = __atomic_load_n(&blocks, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&blocks, &block->next, block, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_run, NO_REGISTERS, block);
}

static void on_syscall(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                       uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != SYS_CLOSE || (a1 & 0xffff0000u) != MARK)
        return;
    for (struct block *block = __atomic_load_n(&blocks, __ATOMIC_ACQUIRE); block; block = block->next) {
        uint64_t runs = __atomic_load_n(&block->runs, __ATOMIC_RELAXED);
        if (runs != block->runs_at_mark)
            fprintf(result, "%" PRIx64 " %" PRIu64 " %u %u %u %u\n", block->address, runs - block->runs_at_mark,
                    block->instructions, block->vector, block->dot, block->memory);
        block->runs_at_mark = runs;
    }
    fprintf(result, "mark %u\n", (unsigned)(a1 & 0xffff));
    fflush(result);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(result = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "arm_plugin: needs out=FILE, a file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
