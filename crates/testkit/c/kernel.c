/* A kernel that never runs: its variables are the memory of a test dump. */

typedef int pid_t;
typedef unsigned char u_char;
typedef _Bool boolean;
enum td_states { TDS_INACTIVE, TDS_INHIBITED, TDS_CAN_RUN, TDS_RUNQ, TDS_RUNNING };
enum p_states { PRS_NEW = 0, PRS_NORMAL, PRS_ZOMBIE };

struct lock_object {
	const char *lo_name;
	unsigned int lo_flags;
	unsigned int lo_data;
	void *lo_witness;
};
struct lock_class { const char *lc_name; unsigned int lc_flags; };
struct mtx { struct lock_object lock_object; volatile unsigned long mtx_lock; };
struct sx { struct lock_object lock_object; volatile unsigned long sx_lock; };
struct rwlock { struct lock_object lock_object; volatile unsigned long rw_lock; };
struct lock { struct lock_object lock_object; volatile unsigned long lk_lock; unsigned lk_exslpfail; int lk_timo, lk_pri; };
struct rmlock { struct lock_object lock_object; unsigned long rm_writecpus; };

struct proc;
struct turnstile {
	struct lock_object *ts_lockobj;
	struct thread *ts_owner;
};
struct thread {
	struct mtx *volatile td_lock;
	struct proc *td_proc;
	struct { struct thread *tqe_next; struct thread **tqe_prev; } td_plist;
	pid_t td_tid;
	int td_flags;
	int td_inhibitors;
	const char *td_wmesg;
	const void *td_wchan;
	const char *td_lockname;
#ifdef SLEEP_QUEUES
	u_char td_tsqueue;
	int td_sqqueue;
#endif
	struct turnstile *td_blocked;
	char td_name[20];
	int td_oncpu, td_lastcpu;
	enum td_states td_state;
	struct pcb *td_pcb;
	char *td_kstack;
	int td_kstack_pages;
	unsigned td_low : 3, td_mid : 7;
	signed td_sign : 5;
	union { long u_long; char u_bytes[8]; };
};
struct ucred {
	unsigned cr_ref, cr_uid, cr_ruid, cr_svuid;
	int cr_ngroups;
	unsigned cr_rgid, cr_svgid;
	unsigned *cr_groups;
};
struct session { pid_t s_sid; };
struct pgrp { struct session *pg_session; pid_t pg_id; };
struct proc {
	struct { struct proc *le_next; struct proc **le_prev; } p_list;
	struct { struct thread *tqh_first; struct thread **tqh_last; } p_threads;
	struct ucred *p_ucred;
	int p_flag;
	enum p_states p_state;
	pid_t p_pid;
	struct { struct proc *le_next; struct proc **le_prev; } p_hash;
	struct proc *p_pptr;
	char p_comm[20];
	struct sx p_lock;
	unsigned short p_matrix[2][3];
	struct pgrp *p_pgrp;
};
struct pcb {
	unsigned long r15, r14, r13, r12, rbp, rsp, rbx, rip;
	unsigned long rest[32];
};

struct lock_class lock_class_sleep = { "sleep mutex", 1 }, lock_class_sx = { "sx", 2 },
	lock_class_rm = { "rm", 1 }, lock_class_rw = { "rw", 1 }, lock_class_lockmgr = { "lockmgr", 2 };
struct lock_class *lock_classes[16] = {
	[1] = &lock_class_sleep, [3] = &lock_class_sx,
	[4] = &lock_class_rm, [5] = &lock_class_rw, [6] = &lock_class_lockmgr,
};
extern struct thread idle_thread, init_thread, shell_thread;
struct mtx flow_mtx = { { "flow", 1 << 24 }, (unsigned long)&init_thread + 1 };
struct sx tree_sx = { { "tree", 3 << 24 }, (unsigned long)&shell_thread };
struct turnstile flow_ts = { &flow_mtx.lock_object, &init_thread };
/* Other kinds of locks, on which threads wait in some tests only. */
struct rwlock table_rw = { { "table", 5 << 24 } };
struct lock vnode_lock = { { "ufs", 6 << 24 } };
struct rmlock hook_rm = { { "hooks", 4 << 24 }, -1ul };
struct turnstile table_ts = { &table_rw.lock_object, 0 }, hook_ts = { &hook_rm.lock_object, &init_thread };
#ifdef SLEEP_QUEUES
struct sleepqueue {
	struct { struct thread *tqh_first; struct thread **tqh_last; } sq_blocked[2];
	unsigned sq_blockedcnt[2];
	struct { struct sleepqueue *le_next; struct sleepqueue **le_prev; } sq_hash;
	struct { struct sleepqueue *lh_first; } sq_free;
	const void *sq_wchan;
	int sq_type;
};
struct sleepqueue_chain {
	struct { struct sleepqueue *lh_first; } sc_queues;
	struct mtx sc_lock;
};
/* A buffer of random bytes that looks like a lock, and a sleeper on it. */
struct lock random_bytes = { { " P\xef" "J", 6 << 24 } };
struct sleepqueue tree_sq = { .sq_wchan = &tree_sx, .sq_type = 3 }, vnode_sq = { .sq_wchan = &vnode_lock, .sq_type = 4 },
	random_sq = { .sq_hash = { &tree_sq }, .sq_wchan = &random_bytes };
struct sleepqueue_chain sleepq_chains[4] = { [1] = { { &random_sq } }, [3] = { { &vnode_sq } } };
#endif
unsigned user_groups[2] = { 20, 5 };
struct ucred root_cred = { 1, 0 }, user_cred = { 1, 1001, 1002, 1003, 2, 30, 31, user_groups };
struct session user_session = { 70 };
struct pgrp user_group = { &user_session, 71 };
char stacks[3][16384] __attribute__((aligned(4096)));
struct pcb pcbs[3];
struct proc proc0, init, shell;
struct thread idle_thread = {
	.td_proc = &proc0, .td_tid = 100000, .td_name = "swapper", .td_oncpu = -1,
	.td_state = TDS_RUNNING, .td_pcb = &pcbs[0], .td_kstack = stacks[0], .td_kstack_pages = 4,
	.td_low = 5, .td_mid = 100, .td_sign = -3, .u_long = 0x4142434445464748,
};
struct thread init_thread = {
	.td_proc = &init, .td_tid = 100002, .td_name = "init", .td_oncpu = -1,
	.td_state = TDS_INHIBITED, .td_inhibitors = 2, .td_wmesg = "tree", .td_wchan = &tree_sx,
	.td_pcb = &pcbs[1], .td_kstack = stacks[1], .td_kstack_pages = 4,
};
struct thread shell_thread = {
	.td_proc = &shell, .td_tid = 100077, .td_name = "worker", .td_oncpu = -1, .td_lastcpu = 3,
	.td_state = TDS_INHIBITED, .td_inhibitors = 8, .td_lockname = "flow",
	.td_blocked = &flow_ts, .td_pcb = &pcbs[2], .td_kstack = stacks[2], .td_kstack_pages = 4,
};
struct proc shell = {
	.p_list = { &init }, .p_threads = { &shell_thread }, .p_ucred = &user_cred,
	.p_state = PRS_NORMAL, .p_pid = 77, .p_pptr = &init, .p_comm = "sh",
	.p_matrix = { { 1, 2, 3 }, { 4, 5, 6 } }, .p_pgrp = &user_group,
};
struct proc init = {
	.p_list = { &proc0 }, .p_threads = { &init_thread }, .p_ucred = &root_cred,
	.p_state = PRS_NORMAL, .p_pid = 1, .p_pptr = &proc0, .p_comm = "init",
};
struct proc proc0 = {
	.p_threads = { &idle_thread }, .p_ucred = &root_cred, .p_flag = 0x200,
	.p_state = PRS_NORMAL, .p_comm = "kernel",
};
struct { struct proc *lh_first; } allproc = { &shell };

const int proc_off_p_pid = __builtin_offsetof(struct proc, p_pid);
const int proc_off_p_comm = __builtin_offsetof(struct proc, p_comm);
const int proc_off_p_list = __builtin_offsetof(struct proc, p_list);
const int proc_off_p_threads = __builtin_offsetof(struct proc, p_threads);
const int thread_off_td_tid = __builtin_offsetof(struct thread, td_tid);
const int thread_off_td_name = __builtin_offsetof(struct thread, td_name);
const int thread_off_td_oncpu = __builtin_offsetof(struct thread, td_oncpu);
const int thread_off_td_pcb = __builtin_offsetof(struct thread, td_pcb);
const int thread_off_td_plist = __builtin_offsetof(struct thread, td_plist);
const int pcb_size = sizeof(struct pcb), thread_len = sizeof(struct thread);
int dumptid = 100077;
struct pcb dumppcb;

/* Kernel modules, as far as the list of them goes. */
struct linker_file {
	void *ops;
	int refs, userrefs, flags;
	struct { struct linker_file *tqe_next; struct linker_file **tqe_prev; } link;
	char *filename, *pathname;
	int id;
	char *address;
	unsigned long size;
};
const int kld_off_address = __builtin_offsetof(struct linker_file, address);
const int kld_off_filename = __builtin_offsetof(struct linker_file, filename);
const int kld_off_pathname = __builtin_offsetof(struct linker_file, pathname);
const int kld_off_next = __builtin_offsetof(struct linker_file, link);
struct linker_file module_entry = { .filename = "flow.ko", .pathname = "/boot/modules/flow.ko" };
struct linker_file kernel_entry = {
	.link = { &module_entry }, .filename = "kernel", .pathname = "/boot/kernel/kernel",
};
struct { struct linker_file *tqh_first; } linker_files = { &kernel_entry };
struct linker_file *linker_kernel_file = &kernel_entry;
char linker_path[64] = "/boot/kernel;/boot/extra";

/* Zones and types of memory, in the shape of FreeBSD 13 and later: counters of each CPU are a page
   apart, and a zone has a cache for each CPU at its end, and after it one for each domain. */
typedef unsigned long *counter_u64_t;
struct uma_bucket {
	struct { struct uma_bucket *stqe_next; } ub_link;
	short ub_cnt, ub_entries;
	unsigned ub_seq;
	void *ub_bucket[4];
};
struct uma_cache_bucket { struct uma_bucket *ucb_bucket; short ucb_cnt, ucb_entries; unsigned ucb_spare; };
struct uma_cache {
	struct uma_cache_bucket uc_freebucket, uc_allocbucket, uc_crossbucket;
	unsigned long uc_allocs, uc_frees;
};
struct uma_zone_domain {
	struct { struct uma_bucket *stqh_first; struct uma_bucket **stqh_last; } uzd_buckets;
};
struct uma_zone {
	struct { struct uma_zone *le_next; struct uma_zone **le_prev; } uz_link;
	const char *uz_name;
	counter_u64_t uz_allocs, uz_frees, uz_fails;
	struct uma_cache uz_cpu[2];
	struct uma_zone_domain after[1];
};
struct uma_slab {
	struct { struct uma_slab *le_next; struct uma_slab **le_prev; } us_link;
	unsigned short us_freecount;
	unsigned char us_flags, us_domain;
	struct { unsigned long __bits[1]; } us_free;
};
struct uma_hash_slab {
	struct { struct uma_hash_slab *le_next; struct uma_hash_slab **le_prev; } uhs_hlink;
	unsigned char *uhs_data;
	struct uma_slab uhs_slab;
};
struct slabhashhead { struct uma_hash_slab *lh_first; };
struct uma_hash { struct slabhashhead *uh_slab_hash; unsigned uh_hashsize, uh_hashmask; };
struct slabhead { struct uma_slab *lh_first; };
struct uma_domain { struct slabhead ud_part_slab, ud_free_slab, ud_full_slab; };
struct uma_keg {
	struct { struct uma_keg *le_next; struct uma_keg **le_prev; } uk_link;
	struct { struct uma_zone *lh_first; } uk_zones;
	struct uma_hash uk_hash;
	unsigned uk_size, uk_rsize;
	unsigned short uk_pgoff, uk_ppera;
	unsigned uk_ipers;
	struct uma_domain uk_domain[1];
};
struct vm_page {
	union {
		struct { struct vm_page *tqe_next; struct vm_page **tqe_prev; } q;
		struct { void *slab; void *zone; } uma;
	} plinks;
	unsigned long phys_addr;
};
struct vm_phys_seg { unsigned long start, end; struct vm_page *first_page; int domain; };
struct malloc_type_stats {
	unsigned long mts_memalloced, mts_memfreed, mts_numallocs, mts_numfrees, mts_size;
};
struct malloc_type_internal { unsigned mti_probes[2]; unsigned char mti_zone; struct malloc_type_stats *mti_stats; };
struct malloc_type {
	struct malloc_type *ks_next;
	unsigned long ks_version;
	const char *ks_shortdesc;
	struct malloc_type_internal ks_mti;
};
struct { unsigned long value; char rest[4088]; } out_counter[2] = { { 100 }, { 50 } },
	back_counter[2] = { { 20 }, { 10 } };
struct { struct malloc_type_stats value; char rest[4056]; } temp_stats[2] = {
	{ { 4096, 1024, 4, 1 } }, { { 0, 1024, 0, 1 } },
};
struct uma_zone mbuf_zone = {
	.uz_name = "mbuf", .uz_allocs = &out_counter[0].value, .uz_frees = &back_counter[0].value,
	.uz_cpu = { { .uc_allocs = 7, .uc_frees = 3 }, { .uc_allocs = 0, .uc_frees = 4 } },
};
struct uma_zone vnode_zone = { .uz_name = "VNODE", .uz_cpu = { { .uc_allocs = 1 } } };
struct slabhashhead vnode_slabs[4];
struct uma_keg vnode_keg = {
	.uk_zones = { &vnode_zone }, .uk_hash = { vnode_slabs, 4, 3 },
	.uk_size = 448, .uk_rsize = 448, .uk_ppera = 1, .uk_ipers = 9,
};
struct uma_keg mbuf_keg = {
	.uk_link = { &vnode_keg }, .uk_zones = { &mbuf_zone },
	.uk_size = 256, .uk_rsize = 256, .uk_pgoff = 4032, .uk_ppera = 1, .uk_ipers = 15,
};
struct { struct uma_keg *lh_first; } uma_kegs = { &mbuf_keg };
/* Another keg, which only some tests put into the list. */
struct uma_zone malloc_zone = { .uz_name = "malloc-1024" };
struct uma_keg malloc_keg = {
	.uk_zones = { &malloc_zone }, .uk_size = 1024, .uk_rsize = 1024, .uk_ppera = 2, .uk_ipers = 8,
};
struct uma_bucket cpu_bucket, full_bucket;
struct vm_page page_array[256];
struct vm_phys_seg vm_phys_segs[2];
int vm_phys_nsegs, vm_ndomains = 1;
struct malloc_type devbuf_type = { .ks_shortdesc = "devbuf" };
struct malloc_type temp_type = {
	.ks_next = &devbuf_type, .ks_shortdesc = "temp", .ks_mti = { .mti_stats = &temp_stats[0].value },
};
struct malloc_type *kmemstatistics = &temp_type;
char *__pcpu;
int mp_maxid = 1;

int hz = 100;
const char *panicstr = "page fault";
const char version[] = "TestBSD 1.0\n";
const char *panic_message = "page fault";
boolean booted = 1;
u_char letter = 'v';
double load_average = 0.25;
int untouched[1000] = { [999] = 7 };
void (*hook)(int);
struct loop { struct loop *next; int value; } loop_b, loop_a = { &loop_b, 1 }, loop_b = { &loop_a, 2 };
struct loop lasso = { &loop_a, 0 }, broken = { (struct loop *)0xffffffffc0000000, 9 };

static inline __attribute__((always_inline)) int deepest(int depth)
{
	return panic_message[depth] + hz;
}
__attribute__((noinline)) int callee(int depth)
{
	int result = deepest(depth);
	__asm__ volatile("" : "+r"(result));
	return result;
}
__attribute__((noinline)) int caller(int depth)
{
	int sum = callee(depth);
	return sum + callee(depth + 1);
}
int kernel_main(void)
{
	return caller(1) + (int)load_average + booted;
}
