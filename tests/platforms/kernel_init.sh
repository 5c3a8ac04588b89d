#!/bin/busybox sh
# The first process of another kernel. The root becomes this machine's own file system, lent by 9p,
# under a layer in memory that takes what is written.
/bin/busybox --install -s /bin
mount -t proc none /proc
while read -r module; do insmod "/modules/$module"; done < /modules/order
mkdir -p /lower /upper /new
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /lower
mount -t tmpfs none /upper
mkdir /upper/changed /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/changed,workdir=/upper/work none /new
for kind in proc sysfs devtmpfs; do
    case $kind in proc) at=proc ;; sysfs) at=sys ;; devtmpfs) at=dev ;; esac
    mount -t $kind none /new/$at
done
mkdir -p /new/dev/shm /new/dev/pts /new/dev/net /new/lib/modules
mknod /new/dev/net/tun c 10 200
ln -s /proc/self/fd /new/dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s fd/${number%:*} /new/dev/${number#*:}; done
mount -t devpts none /new/dev/pts
for at in run dev/shm; do mount -t tmpfs none /new/$at; done
. /settings # KERNEL, TOOLS: folders of this machine
mount -o bind "/lower$KERNEL/lib/modules" /new/lib/modules
# The kernel loads further modules by this program, since this machine may have none for that.
cat > /new/run/modprobe <<END
#!/bin/sh
exec $TOOLS/lib64/ld-linux-x86-64.so.2 --library-path $TOOLS/usr/lib/x86_64-linux-gnu \
    --argv0 modprobe $TOOLS/usr/bin/kmod "\$@"
END
chmod +x /new/run/modprobe
cp /bin/busybox /new/run/busybox
echo /run/modprobe > /proc/sys/kernel/modprobe
cp /command /new/run/command
cat > /new/run/start <<'END'
ip link set lo up
/bin/bash /run/command < /dev/null
echo $? > /dev/ttyS1
/run/busybox poweroff -f
END
umount /proc
exec switch_root /new /bin/bash /run/start
