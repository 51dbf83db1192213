/* Classic mistakes, each a scenario of its own, which run natively for the tests until they fault. */

typedef unsigned long size_t;
struct f_vnet { int id; long counters[4]; };
struct f_addr { unsigned char len, family; char data[14]; };
struct f_ifnet { const char *name; struct f_vnet *vnet; int flags; struct f_addr addrs[3]; };
struct f_route { int refs; struct f_ifnet *ifp; };
struct f_socket { int state; struct { char *first, *last; unsigned used; } rcv; struct f_route *route; };

int f_scenario;
struct f_vnet f_vnet0 = { 1, { 2, 3, 4, 5 } };
struct f_ifnet f_ether = { "em0", &f_vnet0, 1 }, f_bare = { "lo0", 0, 2 };
struct f_route f_good = { 1, &f_ether }, f_empty = { 1, 0 }, f_bad = { 1, &f_bare },
	f_freed = { 1, (struct f_ifnet *)0xdeadc0dedeadc0deul },
	f_text = { 1, (struct f_ifnet *)0x3a726f727265203aul },
	f_user = { 1, (struct f_ifnet *)0x123456789000ul },
	f_error = { 1, (struct f_ifnet *)-12l };
struct f_socket f_sockets[2] = { { 1, { 0 }, &f_empty }, { 2, { 0 }, 0 } };
static volatile long f_sink;

#define NOINLINE __attribute__((noinline))
#define TOUCH() __asm__ volatile("" ::: "memory")

NOINLINE int f_output(struct f_ifnet *ifp, int flags)
{
	f_sink += flags;
	return ifp->flags;
}

NOINLINE int f_send(struct f_route *ro, int flags)
{
	TOUCH();
	return f_output(ro->ifp, flags) + 1;
}

NOINLINE long f_counter(struct f_route *ro, int unused)
{
	TOUCH();
	return ro->ifp->vnet->counters[2] + unused;
}

NOINLINE void f_mark(struct f_socket *so)
{
	TOUCH();
	so->route->refs = 7;
	TOUCH();
}

NOINLINE int f_family(struct f_route *ro)
{
	struct f_ifnet *ifp = ro->ifp;
	TOUCH();
	return ifp->addrs[1].family;
}

static inline __attribute__((always_inline)) unsigned f_used(struct f_socket *so)
{
	return so->rcv.used;
}

NOINLINE unsigned f_inlined(struct f_socket *so, int more)
{
	f_sink += more;
	return f_used(so) + more;
}

NOINLINE long f_run(int scenario)
{
	switch (scenario) {
	case 0: return f_send(&f_empty, 1);
	case 1: return f_counter(&f_bad, 2);
	case 2: f_mark(&f_sockets[1]); return 0;
	case 3: return f_family(&f_empty);
	case 4: return f_inlined(0, 4);
	case 5: return f_send(&f_freed, 5);
	case 6: return f_send(&f_text, 6);
	case 7: return f_send(&f_user, 7);
	default: return f_send(&f_error, 8);
	}
}

__asm__(
"	.globl fault_start\n"
"	.type fault_start, @function\n"
"fault_start:\n"
"	mov $stacks + 49152, %rsp\n"
"	xor %ebp, %ebp\n"
"	mov f_scenario, %edi\n"
"	call f_run\n"
"	int3\n"
"	.size fault_start, . - fault_start\n");
