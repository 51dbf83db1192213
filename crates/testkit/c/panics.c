/* Checks of a kernel that fail, and other ways to crash without a bad access: one for each scenario. */

typedef unsigned long u64;
#define NOINLINE __attribute__((noinline, noclone))

volatile int p_scenario;
volatile u64 p_sink;
/* Where the message of the panic is put. */
char p_message[256] = "?";

struct p_elm {
	u64 number;
	struct p_elm *next;
	struct p_elm **prev;
};

struct p_ucred {
	unsigned uid;
	unsigned ref;
};

struct p_sockbuf {
	unsigned state;
	unsigned sb_ccc;
};

struct p_disk {
	u64 mediasize;
	unsigned sectorsize;
};

struct p_driver {
	const char *name;
	int (*probe)(struct p_driver *);
};

/* The second was removed. */
struct p_elm *p_head;
struct p_elm p_elms[3] = {
	{ 1, &p_elms[2], &p_head },
	{ 2, &p_elms[2], &p_elms[0].next },
	{ 3, 0, &p_elms[0].next },
};
struct p_elm *p_head = &p_elms[0];
struct p_ucred p_cred = { 1001, 0 };
struct p_sockbuf p_buffers[2] = { { 1, 2 }, { 3, 4096 } };
struct p_disk p_disk = { 1 << 20, 0 };
u64 p_data[4] = { 0xf4f4f4f4f4f4f4f4, 0xf4f4f4f4f4f4f4f4 };
struct p_driver p_driver = { "em", (int (*)(struct p_driver *))p_data };

/* What it prints is told by the dump. */
NOINLINE __attribute__((noreturn)) void kassert_panic(const char *format, ...)
{
	p_sink += (u64)format;
	__builtin_trap();
}

NOINLINE void p_remove(struct p_elm *elm)
{
	p_sink += elm->number;
	if (*elm->prev != elm)
		kassert_panic("Bad link elm %p prev->next != elm", elm);
	*elm->prev = elm->next;
	if (elm->next != 0)
		elm->next->prev = elm->prev;
}

static inline int refcount_release(volatile unsigned *count)
{
	unsigned old = *count;
	*count = old - 1;
	if (old == 0)
		kassert_panic("refcount %p wraparound", count);
	return old == 1;
}

NOINLINE void p_crfree(struct p_ucred *cr)
{
	if (refcount_release(&cr->ref))
		p_sink += cr->uid;
}

NOINLINE void uma_zfree_arg(const char *zone, void *item, void *arg)
{
	p_sink += (u64)arg;
	if (p_scenario == 2)
		kassert_panic("Duplicate free of %p from zone %p(%s) slab %p(%d)", item, zone, zone,
		    item, 3);
}

NOINLINE void p_freem(struct p_elm *m, int flags)
{
	uma_zfree_arg("mbuf", m, (void *)0);
	p_sink += m->number + flags;
}

NOINLINE void p_check(struct p_sockbuf *sb, unsigned sum)
{
	p_sink += sb->state;
	if (sb->sb_ccc != sum)
		kassert_panic("Assertion sb->sb_ccc == sum failed at %s:%d", "uipc_sockbuf.c", 12);
	p_sink += sb->sb_ccc;
}

NOINLINE u64 p_sectors(struct p_disk *dp)
{
	return dp->mediasize / dp->sectorsize;
}

NOINLINE int p_probe(struct p_driver *driver)
{
	int error = driver->probe(driver);
	p_sink += error;
	return error;
}

NOINLINE long p_run(int scenario)
{
	switch (scenario) {
	case 0: p_remove(&p_elms[1]); break;
	case 1: p_crfree(&p_cred); break;
	case 2: p_freem(&p_elms[2], 1); break;
	case 3: p_check(&p_buffers[1], 7); break;
	case 4: return p_sectors(&p_disk);
	default: return p_probe(&p_driver);
	}
	return p_sink;
}

__asm__(
"	.globl panic_start\n"
"	.type panic_start, @function\n"
"panic_start:\n"
"	mov $stacks + 49152, %rsp\n"
"	xor %ebp, %ebp\n"
"	mov p_scenario, %edi\n"
"	call p_run\n"
"	int3\n"
"	.size panic_start, . - panic_start\n");
